"""The argument and the options that every command about a configuration has."""

import functools
from collections.abc import Callable
from typing import Any

import click

from orchestrate.request import Request

Command = Callable[..., None]


def takes_config(command: Command) -> Command:
    """Give a command the configuration argument and its options; it gets a Request as `request`."""

    @click.argument("config", metavar="CONFIG")
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one key of the configuration; may be repeated.",
    )
    @click.option(
        "--cluster", metavar="NAME", help="A profile from config/clusters, or the path of a YAML file."
    )
    @click.option(
        "--stub", is_flag=True, help="Real work on a miniature model, in seconds, under the name CONFIG-stub."
    )
    @functools.wraps(command)
    def wrapped(
        config: str, overrides: tuple[str, ...], cluster: str | None, stub: bool, **others: Any
    ) -> None:
        command(request=Request.of(config, overrides, stub=stub, cluster=cluster), **others)

    return wrapped  # fmt: skip
