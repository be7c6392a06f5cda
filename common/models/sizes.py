"""How large a model is, read from its `config.json` or its GGUF header without loading it, or `torch`.

`model.d_model` and `model.n_layers` need not be given: they are read here, and held against the model where they are.
"""

import functools
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import GhostTrackError, ModelSourceError
from ghosttrack.common.files import LONGEST_RECORD
from ghosttrack.common.foreign import parse_json, read_json
from ghosttrack.common.models import gguf_header
from ghosttrack.common.models.source import MINIATURE, PACKAGE_PREFIX, ModelSource, locate

WIDTHS = ("hidden_size", "n_embd", "d_model", "model_dim", "n_embed", "hidden_dim", "dim")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
CONTEXTS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx", "seq_length",
)  # fmt: skip
"""What configurations call a model's sizes, in the order in which they are looked for."""
COMPUTED_HERE: dict[str, Any] = {
    "dtype": "float32", "attn_implementation": None, "_attn_implementation": None, "return_dict": True,
    "output_hidden_states": False, "output_attentions": False,
}  # fmt: skip
"""In the place of what a configuration says of how a model was computed where it was saved."""
MOST_BLOW_UP = 16
"""Times as many weights as its files hold that a configuration may describe: quantised ones are packed, a few to a number."""
LARGEST = 1 << 60
"""Beyond it a number is no size."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of a weight, by `model.dtype`."""
SHARE_OF_ROOM = 0.6
"""Of a device's free memory that weights may take; the rest is for states and for the block at work."""
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


def arithmetic(dtype: str, gpu: bool) -> str:
    """What a `model.dtype` is with a GPU that has bfloat16, or without one."""
    return ("bfloat16" if gpu else "float32") if dtype == "auto" else dtype


@dataclass(frozen=True)
class Sizes:
    d_model: int
    n_layers: int
    architecture: str
    context: int | None = None
    """Most tokens that the model sees."""
    parameters: int | None = None
    """Numbers in its weights, where the files tell."""
    chat: bool = False
    """Whether its tokenizer has a chat template."""
    vocabulary: int | None = None
    """Tokens that have an embedding."""


def context_of(config: Any) -> int | None:
    """Tokens of a text that a model sees at most, by its configuration in transformers; None: it names no bound.

    Positions of the kind "longrope" have other frequencies in a text beyond the original length, and in all texts that are read
    beside it; so texts end there.
    """
    text = config.get_text_config()
    rotary = getattr(text, "rope_parameters", None) or {}
    bounds = [
        one["original_max_position_embeddings"]
        for one in (rotary, *rotary.values())
        if isinstance(one, dict) and one.get("rope_type") == "longrope"
    ]
    return min([*bounds, *filter(None, [_first(vars(text), CONTEXTS)])], default=None)


MINIATURE_SIZES = Sizes(d_model=64, n_layers=4, architecture="llama")


def sizes_of(source: str, revision: str | None = None) -> Sizes:
    """The sizes of `model.base_model`. Raises ModelSourceError where it cannot be found or does not tell."""
    if source == MINIATURE:
        return MINIATURE_SIZES
    place = locate(source)
    try:
        if place.gguf:
            return _of_gguf(place.gguf, place.gguf.stat().st_mtime_ns)
        return _of_config(source, _folder_of(source, place, revision))
    except (GhostTrackError, PermissionError):
        raise
    except Exception as error:  # files of somebody else's, damaged in whichever way
        if found := storage_error(error, place.folder or place.gguf, "read"):
            raise found from error
        text = " ".join(str(error).split())
        raise ModelSourceError(
            f"model.base_model = {source!r} cannot be read: {text[:200] or type(error).__name__}; fetch it again"
        ) from error


@functools.lru_cache(maxsize=8)
def weights_and_vocabulary(source: str) -> tuple[int | None, int | None]:
    """Of a folder or a .gguf file that is here, for an estimate; None where it does not tell."""
    if source == MINIATURE or source.startswith(PACKAGE_PREFIX):
        return None, None
    try:
        if locate(source).hub is not None:
            return None, None
        sizes = sizes_of(source)
    except (GhostTrackError, OSError):
        return None, None
    return sizes.parameters, sizes.vocabulary


def _folder_of(source: str, place: ModelSource, revision: str | None) -> Path:
    """The folder with the model's `config.json`; of a hub's model in the hub's cache, where it is put if need be."""
    if place.folder:
        refuse_without_config(source)
        return place.folder
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    try:
        found = try_to_load_from_cache(source, "config.json", revision=revision)
        # asked once: a download asks a hub that is out of reach for half a minute
        if not isinstance(found, str):
            get_hf_file_metadata(hf_hub_url(source, "config.json", revision=revision))
        path = found if isinstance(found, str) else hf_hub_download(source, "config.json", revision=revision)
        for name in ("tokenizer_config.json", *TEMPLATE_FILES):
            if not isinstance(found, str):
                try:
                    hf_hub_download(source, name, revision=revision)
                except EntryNotFoundError:
                    continue
    except Exception as error:  # httpx, huggingface_hub and the file system each have their own
        text = " ".join(str(error).split())
        raise ModelSourceError(
            f"model.base_model = {source!r}: its config.json cannot be had from the hub ({text[:200]}); give a local folder or "
            "a .gguf file, or say model.d_model and model.n_layers"
        ) from error
    return Path(path).parent


def refuse_without_config(source: str) -> None:
    """Raises ModelSourceError for a local folder that is no model's, such as that of an adapter."""
    folder = locate(source).folder
    if folder is not None and not ((folder / "config.json").is_file() and _is_whole(folder)):
        raise ModelSourceError(_without_config(source, folder))


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a model and no adapter beside it, which would be left out without a word."""
    return not (folder / "adapter_config.json").is_file()


def _without_config(source: str, folder: Path) -> str:
    if not _is_whole(folder):
        beside = "beside" if (folder / "config.json").is_file() else "without"
        return (
            f"model.base_model = {source!r} holds a PEFT adapter {beside} its base model; merge it into its base (`merge_and_unload`), save the "
            "whole model and name that folder"
        )
    if files := sorted(folder.glob("*.gguf")):
        return f"model.base_model = {source!r} is a folder of GGUF files; name the file: {files[0]}"
    inner = [path.parent for place in ("*", "snapshots/*") for path in folder.glob(f"{place}/config.json")]
    such = f", such as {max(inner, key=lambda place: (len(place.name), place.name))}" if inner else ""
    return f"model.base_model = {source!r} has no config.json; name the folder that `save_pretrained` wrote{such}"


def _of_config(source: str, folder: Path) -> Sizes:
    try:
        config = read_json(folder / "config.json")
        assert isinstance(config, dict), "it holds no object"
    except (OSError, ValueError, AssertionError) as error:
        if found := storage_error(error, folder, "read"):
            raise found from error
        raise ModelSourceError(
            f"{folder / 'config.json'} cannot be read as a model's configuration ({error}); fetch it again"
        ) from error
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    if text.get("is_encoder_decoder"):
        raise ModelSourceError(
            f"model.base_model = {source!r} is an encoder with a decoder ({config.get('model_type')!r}), which reads a prompt by other "
            "blocks than it answers with; name a decoder-only model"
        )
    d_model, n_layers = _first(text, WIDTHS), _first(text, DEPTHS)
    # what is left out has its class's default, which transformers knows
    if d_model is None or n_layers is None:
        d_model, n_layers = _by_transformers(source, folder)
    weights = _weights(folder)
    least = d_model * max(
        n_layers, _first(text, ("vocab_size",)) or 0, n_layers * (_first(text, ("intermediate_size",)) or 0)
    )
    held = sum(file.stat().st_size for file in folder.glob("*.bin")) if weights is None else weights
    if held and least > MOST_BLOW_UP * held:
        raise ModelSourceError(
            f"model.base_model = {source!r}: its config.json describes at least {least} weights, and its files hold {held} at most; "
            "take both from the same model, whole"
        )
    return Sizes(
        d_model, n_layers, str(config.get("model_type", "unknown")), _first(text, CONTEXTS), weights, _chats(folder),
        _first(text, ("vocab_size",)),
    )  # fmt: skip


def _first(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next(
        (value for name in names if type(value := config.get(name)) is int and 0 < value < LARGEST), None
    )


def _by_transformers(source: str, folder: Path) -> tuple[int, int]:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, **COMPUTED_HERE
        ).get_text_config()
        width, depth = int(config.hidden_size), int(config.num_hidden_layers)
        if min(width, depth) < 1:
            raise ValueError(f"it says {width} wide and {depth} deep")
        return width, depth
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        text = " ".join(str(error).split())
        raise ModelSourceError(
            f"model.base_model = {source!r}: its config.json does not tell its width and depth ({text[:200]}); say model.d_model "
            "and model.n_layers"
        ) from error


def _weights(folder: Path) -> int | None:
    """Numbers in the safetensors that are loaded, from their headers; None where there are none."""
    total, index = 0.0, folder / "model.safetensors.index.json"
    names = {"model.safetensors"}  # of others beside them, such as consolidated.safetensors, nothing is read
    if index.is_file():
        names = set(read_json(index)["weight_map"].values())
    for path in (folder / name for name in names if (folder / name).is_file()):
        with path.open("rb") as file:
            try:
                [length] = struct.unpack("<Q", file.read(8))
                header = parse_json(file.read(min(length, LONGEST_RECORD)))
            except (ValueError, struct.error):
                return None
        try:
            total += sum(
                math.prod(map(float, entry["shape"]))
                for name, entry in header.items()
                if name != "__metadata__"
            )
        except OverflowError:  # a number of hundreds of digits
            return None
    return int(total) if 0 < total < LARGEST else None


def _chats(folder: Path) -> bool:
    if any((folder / name).is_file() for name in TEMPLATE_FILES):
        return True
    try:
        return bool(read_json(folder / "tokenizer_config.json").get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


@functools.lru_cache(maxsize=8)
def _of_gguf(path: Path, changed: int) -> Sizes:
    """changed: time of the last change, so that another file of the name is read anew."""
    header = gguf_header.read(path)
    values, architecture = header.values, str(header.values.get("general.architecture"))
    width, depth = (values.get(f"{architecture}.{name}") for name in ("embedding_length", "block_count"))
    if not isinstance(width, int) or not isinstance(depth, int):
        raise ModelSourceError(
            f"{path} does not tell its width and depth (general.architecture is {architecture!r}); it is no language model"
        )
    return Sizes(
        width, depth, architecture, _first(values, (f"{architecture}.context_length",)), header.weights,
        "tokenizer.chat_template" in values, _first(values, ("tokenizer.ggml.tokens",)),
    )  # fmt: skip
