"""The command `ghosttrack`, to which modules add theirs; the argument and the options that these share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from ghosttrack.common.config.options import takes_overrides
from ghosttrack.orchestrate.executor import ExecutorName, default_executor
from ghosttrack.orchestrate.request import Request

Command = Callable[..., None]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ghosttrack")
def ghosttrack() -> None:
    """Why does a language model hallucinate? Plan, run and watch the pipeline.

    CONFIG is a name from config/model_configs (demo, gpt2-medium, …), the path of a YAML file, or the name of one here
    that `ghosttrack init` wrote.
    """


def takes_config(command: Command, *, as_submitted: bool = False) -> Command:
    """Give a command the configuration argument and its options; it gets a Request as `request`.

    as_submitted: options that are not given are those of what was last submitted for the configuration.
    """

    @click.argument("config", metavar="CONFIG", required=False)
    @click.option("--config", "named", metavar="CONFIG", help="The same, as the stages take it.")
    @takes_overrides
    @click.option(
        "--name",
        "as_name",
        metavar="NAME",
        help="A name of its own for a variant, which stands beside CONFIG's own results.",
    )
    @functools.wraps(command)
    def wrapped(
        config: str | None,
        named: str | None,
        overrides: tuple[str, ...],
        as_name: str | None,
        cluster: str | None,
        stub: bool,
        **others: Any,
    ) -> None:
        if as_name is not None:
            overrides = (*overrides, f"name={as_name}")
        if (config is None) == (named is None):
            raise click.UsageError("name one configuration: CONFIG or --config CONFIG")
        of = Request.as_submitted if as_submitted else Request.of
        command(request=of(config or named or "", overrides, stub=stub, cluster=cluster), **others)

    return wrapped  # fmt: skip


takes_submitted_config = functools.partial(takes_config, as_submitted=True)


def takes_strict_code(command: Command) -> Command:
    """Give a command `--strict-code`; its request knows."""

    @click.option(
        "--strict-code",
        is_flag=True,
        help="What other code or another image than there is now has made is out of date, too.",
    )
    @functools.wraps(command)
    def wrapped(request: Request, strict_code: bool, **others: Any) -> None:
        command(request=dataclasses.replace(request, strict_code=strict_code), **others)

    return wrapped


def takes_executor(command: Command) -> Command:
    """Give a command `--executor` and `--container`; it gets what they or the profile say, as names."""

    @click.option(
        "--executor",
        type=click.Choice(["local", "slurm"]),
        envvar="GHOSTTRACK_EXECUTOR",
        help="Where stages run; else as the profile says, else slurm where there is an sbatch.",
    )
    @click.option(
        "--container",
        type=click.Choice(["apptainer", "none"]),
        envvar="GHOSTTRACK_CONTAINER",
        help="Whether stages run in their images; else as the profile says.",
    )
    @functools.wraps(command)
    def wrapped(
        executor: ExecutorName | None, container: str | None, request: Request, **others: Any
    ) -> None:
        if container:
            request = dataclasses.replace(request, contained=container == "apptainer")
        command(
            request=request,
            executor=executor or default_executor(request.profile),
            contained=request.contained,
            **others,
        )

    return wrapped  # fmt: skip
