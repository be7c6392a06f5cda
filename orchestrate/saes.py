"""Commands about trained SAEs: as folders that SAELens loads."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import click

from ghosttrack.common.config.options import chosen_layers, refuse_other_layers
from ghosttrack.common.config.schema import Config, describe_layers
from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.contract import PRETRAINED, PRETRAINED_INDEPENDENT
from ghosttrack.common.engine.fingerprint import name_of
from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ConfigError, MissingInputError, StorageError
from ghosttrack.common.formats.saes import INDEPENDENT_SAE, SAE, trained_as
from ghosttrack.orchestrate.disk import folder_size
from ghosttrack.orchestrate.options import ghosttrack, takes_config
from ghosttrack.orchestrate.plan import PlannedUnit
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request


@ghosttrack.group()
def sae() -> None:
    """Use trained SAEs elsewhere."""


@sae.command()
@takes_config
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write layer_0, layer_1, … into.",
)
@click.option("--layers", callback=chosen_layers, metavar="0-5", help="Only these layers.")
@click.option(
    "--independent", is_flag=True, help="Those that were trained apart, as independent_0, independent_1, …."
)
@click.option("--force", is_flag=True, help="Replace layer folders that are there already.")
def export(request: Request, output: Path, layers: list[int] | None, independent: bool, force: bool) -> None:
    """Write the published SAEs as folders that SAELens loads with the same outputs."""
    config, terminal = request.config, Terminal()
    chosen = config.layers if layers is None else layers
    refuse_other_layers(config, chosen)
    kind, key = ("independent", PRETRAINED_INDEPENDENT) if independent else ("layer", PRETRAINED)
    saes = INDEPENDENT_SAE if independent else SAE
    writers = {file: planned for planned in request.plan().units for file in planned.unit.writes}
    if saes.of(chosen[0]).name not in writers:
        raise ConfigError(
            f"{config.name} has no SAEs that were trained apart; set sae.independent_twin or sae.pretrained_independent"
        )
    units = {layer: writers[saes.of(layer).name] for layer in chosen}
    files = {layer: published_sae(request, planned) for layer, planned in units.items()}
    folders = {layer: output / f"{kind}_{layer}" for layer in chosen}
    for planned in units.values():
        if planned.reason:
            terminal.line(f"note: {planned.unit.label} is not what would be made now ({planned.reason})")
    for folder in folders.values():
        if not force and folder.exists() and any(folder.iterdir()):
            raise StorageError(f"{folder} is there already; give --force to replace it, or another --output")
    with (
        storage_errors(output),
        contextlib.ExitStack() as stack,
    ):  # all of them change over when the last is whole
        for layer, folder in folders.items():
            write(files[layer], stack.enter_context(atomic.folder(folder)), layer, config)
    for folder in folders.values():
        terminal.line(f"{folder}: {format_bytes(folder_size(folder))}")
    terminal.line(f"SAELens loads one with `sae_lens.SAE.load_from_disk({str(folders[chosen[0]])!r})`;")
    terminal.line(
        f"GhostTrack takes them instead of training with --set '{key}={output}/{kind}_{{layer}}'"
        + (f" --set model.layers={describe_layers(chosen)}" if chosen != config.layers else "")
    )


class Published(NamedTuple):
    """A SAE's file and that of its figures."""

    file: Path
    metrics: Path


def published_sae(request: Request, planned: PlannedUnit) -> Published:
    """Verified. Raises MissingInputError or CorruptInputError."""
    layer = planned.unit.layer
    if planned.entry is None:
        raise MissingInputError(
            f"{request.config.name}: the SAE of layer {layer} has no result; `ghosttrack run` makes it, or choose the "
            "layers that there are with --layers"
        )
    store = request.store
    file, metrics = (store.file(planned.entry, name) for name in planned.unit.writes)
    return Published(file, metrics)


def write(sae: Published, folder: Path, layer: int, config: Config) -> None:
    """Write a layer's folder."""
    from ghosttrack.common.models import saelens  # late: it takes torch with it

    metadata, first = metadata_of(config), trained_as(sae.metrics)
    saelens.export(sae.file, folder, layer=layer, metadata=metadata, trained_as=first)


def metadata_of(config: Config) -> dict[str, object]:
    """What SAELens may know of how a SAE was made."""
    return {
        "model_name": name_of(config.model.base_model),
        "dataset_path": name_of(config.data.corpus),
        "context_size": config.extract.max_length,
    }
