"""Where the weights of a model lie: on one device, or its blocks spread over GPUs, memory and disk.

accelerate brings inputs and weights to where a block is computed. All but the blocks (embeddings, final norm, head) is on the
first device, where everything that reads states works.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)

from ghosttrack.common.engine import ranks
from ghosttrack.common.errors import ModelSourceError, first_of
from ghosttrack.common.models.sizes import SHARE_OF_ROOM, arithmetic

Device = int | str


def load_placed(folder: Path, dtype: str, devices: str, offload: str) -> PreTrainedModel:
    """The model of a snapshot on the first device, or where it has no room there, spread (`model.devices`, `model.offload`).

    Raises ModelSourceError where there is no room for it anywhere.
    """
    gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    kind = getattr(torch, arithmetic(dtype, gpu))
    arguments: dict[str, Any] = {"trust_remote_code": False, "dtype": kind, "output_loading_info": True}
    room = room_of(devices, offload)
    first = next(iter(room))
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) * kind.itemsize / 4
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    reader = reader_for(config)
    if size <= room[first] or len(room) == 1:
        model: Any = _whole(folder, *reader.from_pretrained(folder, **arguments))
        return model.to(choose_device())
    with torch.device("meta"):
        empty = reader.from_config(config, dtype=kind)
    scratch = tempfile.mkdtemp(prefix="ghosttrack-offload-")
    try:
        placed = device_map(empty, room)
        model = _whole(
            folder, *reader.from_pretrained(folder, device_map=placed, offload_folder=scratch, **arguments)
        )
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    weakref.finalize(model, shutil.rmtree, scratch, ignore_errors=True)
    return model


def _whole(folder: Path, model: PreTrainedModel, loading: Mapping[str, Any]) -> PreTrainedModel:
    """The model that was loaded. Raises ModelSourceError for one with weights that its files do not hold: transformers makes them up."""
    if missing := sorted(loading["missing_keys"]):
        raise ModelSourceError(
            f"{folder} has not all weights of its model: {first_of(missing)}; make it anew"
        )
    return model


def reader_for(config: Any) -> Any:
    """The class of transformers that reads a model: a language model, or one that sees pictures too, of which the part that reads
    text is studied. Raises ModelSourceError for any other."""
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        raise ModelSourceError(
            f"the architecture {config.model_type!r} is an encoder as it is configured, which fills gaps and does not go on with a text; "
            "name a decoder-only model with model.base_model"
        )
    readers = [
        (AutoModelForImageTextToText, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
        (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
    ]
    for reader, known in readers if config.get_text_config() is not config else readers[::-1]:
        if type(config) in known:
            return reader
    raise ModelSourceError(
        f"the architecture {config.model_type!r} is none that transformers reads as a language model; name a decoder-only one with "
        "model.base_model"
    )


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def room_of(devices: str, offload: str) -> dict[Device, float]:
    """Bytes that weights may take, the device that computes first.

    devices: `auto` (all GPUs, where this process is the only one of its unit) or `one`. offload: `none`, `memory`, or `disk`.
    """
    memory = SHARE_OF_ROOM * psutil.virtual_memory().available
    if not torch.cuda.is_available():
        return {"cpu": memory, "disk": float("inf")} if offload == "disk" else {"cpu": float("inf")}
    own = torch.cuda.current_device()
    alone = devices == "one" or ranks.count() > 1
    others = [] if alone else [number for number in range(torch.cuda.device_count()) if number != own]
    room: dict[Device, float] = {n: SHARE_OF_ROOM * torch.cuda.mem_get_info(n)[0] for n in (own, *others)}
    if offload != "none":
        room["cpu"] = memory
    if offload == "disk":
        room["disk"] = float("inf")
    return room


def device_map(empty: PreTrainedModel, room: Mapping[Device, float]) -> dict[str, Device]:
    """Module to device, as accelerate has it. empty: the model on the meta device. Raises ModelSourceError."""
    path, blocks = _blocks(empty)
    sizes = [_bytes(block) for block in blocks]
    places = spread(sizes, _bytes(empty) - sum(sizes), room)
    first = next(iter(room))
    outside = dict.fromkeys(_outside(empty, path), first)
    return outside | {f"{path}.{number}": place for number, place in enumerate(places)}


def spread(sizes: Sequence[int], rest: int, room: Mapping[Device, float]) -> list[Device]:
    """A device for each block in order, each filled before the next is begun; `rest` bytes are on the first, and room there
    for a block that comes from elsewhere. Raises ModelSourceError."""
    left = dict(room)
    devices = list(left)
    left[devices[0]] -= rest + max(sizes)
    places: list[Device] = []
    if left[devices[0]] >= 0:
        for size in sizes:
            while devices and left[devices[0]] < size:
                devices.pop(0)
            if not devices:
                break
            left[devices[0]] -= size
            places.append(devices[0])
    if len(places) < len(sizes):
        held = ", ".join(f"{name}: {size / 1e9:.1f} GB" for name, size in room.items())
        raise ModelSourceError(
            f"the model's weights take {(rest + sum(sizes)) / 1e9:.1f} GB, and there is room for fewer ({held}); set model.offload: "
            "memory or disk, or model.dtype: bfloat16"
        )
    return places


def _blocks(model: PreTrainedModel) -> tuple[str, torch.nn.ModuleList]:
    """The list of as many modules as there are layers that has the most weights, and its name."""
    depth = int(model.config.get_text_config().num_hidden_layers)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    if not lists:
        raise ModelSourceError(
            f"{type(model).__name__} has no list of blocks to spread; set model.devices: one and model.offload: none"
        )
    return max(lists, key=lambda pair: _bytes(pair[1]))


def _outside(model: torch.nn.Module, path: str) -> Iterator[str]:
    """Names of all modules and weights that are not in the blocks."""
    parts = path.split(".")
    for depth, part in enumerate(parts):
        before = "".join(f"{name}." for name in parts[:depth])
        holder = model.get_submodule(".".join(parts[:depth]))
        yield from (f"{before}{name}" for name, _ in holder.named_children() if name != part)
        yield from (f"{before}{name}" for name, _ in holder.named_parameters(recurse=False))


def _bytes(module: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())
