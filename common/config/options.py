"""The options by which a command is told its configuration, the same for stages and for the orchestrator."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import click

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config, describe_layers, parse_layers
from ghosttrack.common.errors import ConfigError

NAME = "A name from config/model_configs, or the path of a YAML file."


class Finite(click.FloatRange):
    """A number of an option: neither nan, which compares with no bound, nor infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a number that can be reckoned with; give one such as 1.5.", param, ctx)
        return number


def chosen_layers(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """The layers of `--layers`, ascending; None where it is not given. Raises ConfigError."""
    try:
        return parse_layers(value)
    except ValueError as error:
        raise ConfigError(f"--layers: {error}") from error


def refuse_other_layers(config: Config, layers: Iterable[int]) -> None:
    """Raise ConfigError for layers that the configuration does not study."""
    if outside := sorted(set(layers) - set(config.layers)):
        raise ConfigError(
            f"--layers: layer {outside[0]} is out of range; {config.name} studies layers {describe_layers(config.layers)}"
        )


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
