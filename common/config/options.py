"""The options by which a command is told its configuration, the same for stages and for the orchestrator."""

import functools
from collections.abc import Callable
from typing import Any

import click

from ghosttrack.common.config.load import load_config

NAME = "A name from config/model_configs, or the path of a YAML file."


def takes_overrides(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what changes a configuration: `overrides`, `cluster` and `stub`."""
    for option in (
        click.option(
            "--stub",
            is_flag=True,
            help="Real work on a miniature model, in seconds, under the name NAME-stub.",
        ),
        click.option(
            "--cluster", metavar="NAME", help="A profile from config/clusters, or the path of a YAML file."
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override one key of the configuration; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def takes_config(command: Callable[..., None], required: bool = True) -> Callable[..., None]:
    """Give a command the options that name a configuration; it gets it as `config`, None where none is named."""

    @click.option("--config", "name", required=required, metavar="NAME", help=NAME)
    @takes_overrides
    @functools.wraps(command)
    def wrapped(
        name: str | None, overrides: tuple[str, ...], cluster: str | None, stub: bool, **others: Any
    ) -> None:
        config = load_config(name, overrides, cluster=cluster, stub=stub) if name is not None else None
        command(config=config, **others)

    return wrapped
