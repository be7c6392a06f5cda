"""The language model as a plain Hugging Face folder: config.json, float32 safetensors, fast tokenizer.

Sources: a hub id, a local folder, a local `.gguf` file, or `package:<distribution>/<file.gguf>` (weights
that come as a Python package; the package is never imported). Later stages read only the folder.
"""

import contextlib
import functools
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import ModelMismatchError, ModelSourceError, first_of
from ghosttrack.common.foreign import in_short, read_json
from ghosttrack.common.models.language_model import check_tokenizer
from ghosttrack.common.models.placing import reader_for
from ghosttrack.common.models.sizes import COMPUTED_HERE, context_of, refuse_without_config, sizes_of
from ghosttrack.common.models.source import locate
from ghosttrack.common.models.structure import find_structure
from ghosttrack.stages.prepare import tokenizer as tokenizers
from ghosttrack.stages.prepare.gguf_settings import complete, completed, spaced
from ghosttrack.stages.prepare.lengths import TokenReader

PADDING, MOST_PADDING = 0.1, 1024
"""Share of a model's embeddings that no token of its own may have; small models, rounded up to the next power of two, may have as many
as that number and up to half of theirs."""

FAST = tokenizers.FAST
OLD = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "qwen.tiktoken", "tekken.json")
"""Files of tokenizers that transformers makes the one from that is read, with a library to each."""
QUANTISED = {"quantization_config", "compression_config"}
"""Keys of a configuration that say how its weights are packed."""
OTHER_TOKENS = (
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias",
    "forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens", "num_beams", "guidance_scale", "stop_strings",
)  # fmt: skip
CONSTANTS = (".masked_bias", ".inv_freq")
"""Ends of names that older checkpoints have for what is no weight: a mask's fill value, the rotary frequencies."""


def load_source(source: str, revision: str | None = None) -> tuple[PreTrainedModel, Any]:
    """The causal language model (float32, on the CPU) and the fast tokenizer of a source.

    Raises ModelSourceError when the source cannot be found or read, asks for code of its own, or has not exactly the
    weights of its architecture, all of them finite.
    """
    with _opened(source, revision) as opened:
        loaded: Any = opened.reader.from_pretrained(
            opened.place,
            config=opened.config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
            **opened.arguments,
        )
        model, loading = loaded
        if QUANTISED & vars(opened.config).keys():
            model._weight_conversions = None  # they would be saved by the names of packed ones
        if opened.gguf is not None:
            model = completed(model, opened.gguf)
    if complaint := _wrong_weights(model, loading):
        raise ModelSourceError(
            f"model.base_model = {source!r} {complaint}; take a whole copy of it, its weights and its config.json"
        )
    return model.eval(), opened.tokenizer


def check_source(source: str, revision: str | None = None) -> None:
    """Raises ModelSourceError where `load_source` would before it reads weights: for an architecture, say, or a part of a GGUF file."""
    with _opened(source, revision) as opened, init_empty_weights():
        model = opened.reader.from_config(opened.config)
        if opened.gguf is not None:
            completed(model, opened.gguf)


class _Opened(NamedTuple):
    """place, arguments: what to hand to `reader.from_pretrained`, a class of transformers. gguf: a `gguf.GGUFReader`."""

    place: str
    arguments: dict[str, Any]
    reader: Any
    config: Any
    tokenizer: Any
    gguf: Any


@contextlib.contextmanager
def _opened(source: str, revision: str | None) -> Iterator[_Opened]:
    """A source before its weights are read, to do so within the context.

    Raises ModelSourceError, for what fails within it too.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    place, arguments = _arguments(source, revision)
    refuse_without_config(source)
    tokenizer, folder = None, locate(source).folder
    if folder is not None:
        _refuse_unknown_quantisation(source, folder)
        _refuse_odd_generation(source, folder)
    try:
        if folder is not None:
            sizes_of(source)  # a configuration of more weights than there are would take the memory for them
        with _one_gguf_parse() if "gguf_file" in arguments else contextlib.nullcontext():
            tokenizer = tokenizers.read(place, arguments)
            if not tokenizer.is_fast:
                raise ModelSourceError(
                    f"model.base_model = {source!r} has no fast tokenizer; GhostTrack needs one"
                )
            tokenizer("größer 東京")  # one whose class is not its vocabulary's fails at what it does not know
            config = AutoConfig.from_pretrained(place, trust_remote_code=False, **COMPUTED_HERE, **arguments)
            if folder is not None:
                _refuse_whole_numbers(source, folder)
            file = _gguf_reader(source)
            if file is None:
                reader: Any = reader_for(config)
            else:
                reader, config = AutoModelForCausalLM, complete(config, file)
                tokenizer = spaced(tokenizer, file)
            text = config.get_text_config()
            padding = getattr(text, "pad_token_id", None)
            if (padding or 0) >= text.vocab_size:  # of no use, and no embedding is made with it
                text.pad_token_id = None
            yield _Opened(place, arguments, reader, config, tokenizer, file)
    except ModelSourceError:
        raise
    except Exception as error:  # a file of somebody else's in any of four formats, through as many libraries
        if isinstance(error, OSError) and (found := storage_error(error)):
            raise found from error
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise ModelSourceError(
                f"model.base_model = {source!r}: its .bin file holds more than weights, and is not run; give safetensors"
            ) from error
        raise ModelSourceError(
            f"model.base_model = {source!r} {_trouble(source, error, tokenizer)}"
        ) from error


def reader_of_source(source: str, revision: str | None = None) -> TokenReader:
    """A source's tokenizer and how much its model can see, without its weights. Raises ModelSourceError."""
    with _opened(source, revision) as opened:
        return TokenReader(opened.tokenizer, context_of(opened.config))


def _trouble(source: str, error: Exception, tokenizer: Any) -> str:
    """What is wrong with a source that does not load, and what to do about it, by what it is and whether its tokenizer was read."""
    from transformers import CONFIG_MAPPING

    if "trust_remote_code" in str(error):
        return (
            "brings code of its own, which is not run; take a model of an architecture that transformers has (pip install --upgrade "
            f"transformers may bring it), and for a tokenizer of its own a {FAST} without `auto_map` in its tokenizer_config.json"
        )
    place, wrong = locate(source), f"cannot be loaded: {in_short(error)}"
    if place.gguf:
        return (
            f"{wrong}; fetch the file again if it is damaged; where transformers reads no GGUF of this architecture, give the folder "
            "with the model's config.json and safetensors that it was made from"
        )
    if place.folder is None:
        return f"{wrong}; give a hub id that this machine can reach, a local folder or package:<distribution>/<file.gguf>"
    config = _config_of(place.folder)
    if config.get("quantization_config"):
        return f"{wrong}; it is quantised: install the library that reads it, or give the model's folder before quantisation"
    if config and config.get("model_type") not in CONFIG_MAPPING:
        return (
            f"{wrong}; run pip install --upgrade transformers, or take a model of an architecture that it has"
        )
    if tokenizer is None and not any((place.folder / name).is_file() for name in (FAST, "vocab.json")):
        old = next((name for name in OLD if (place.folder / name).is_file()), None)
        lacks, mend = f"no {FAST}", f"put the {FAST} of the model beside its weights"
        if old is None:
            return f"has {lacks}; {mend}"
        return (
            f"has {lacks}, but a {old}; {mend} (where sentencepiece or tiktoken is installed, transformers' AutoTokenizer makes one of "
            f"a {old})"
        )
    return f"{wrong}; fetch it again, whole: config.json, weights (.safetensors or .bin) and tokenizer"


def _config_of(folder: Path) -> dict[str, Any]:
    """A folder's config.json; {} for a damaged one, of which whoever loads it tells."""
    with contextlib.suppress(OSError, ValueError):
        config = read_json(folder / "config.json")
        return config if isinstance(config, dict) else {}
    return {}


def _refuse_unknown_quantisation(source: str, folder: Path) -> None:
    """transformers skips what it does not know, and packed weights would be taken for numbers. Raises ModelSourceError."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as KNOWN

    settings = _config_of(folder).get("quantization_config")
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if method is not None and method != "bitsandbytes" and str(method) not in KNOWN:
        raise ModelSourceError(
            f"model.base_model = {source!r} is quantised by {str(method)[:40]!r}, which transformers does not read; give the model's "
            "folder before quantisation"
        )


def _refuse_whole_numbers(source: str, folder: Path) -> None:
    """Packed weights of which no configuration says what they stand for would be taken for numbers. Raises ModelSourceError."""
    config = _config_of(folder)
    if QUANTISED & {*config, *(config.get("text_config") or ())}:
        return
    for path in sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin")):
        if path.suffix == ".bin":
            weights = torch.load(path, map_location="meta", weights_only=True)
            whole = {name for name, values in weights.items() if not values.is_floating_point()}
        else:
            with safe_open(path, "pt") as file:
                whole = {name for name in file.keys() if file.get_slice(name).get_dtype()[0] in "IU"}  # noqa: SIM118
        if names := sorted(name for name in whole if name.endswith("weight")):
            raise ModelSourceError(
                f"model.base_model = {source!r} has whole numbers in the place of weights, and its config.json does not say what they "
                f"stand for (quantization_config): {first_of(names)}; give the model's folder before quantisation"
            )


def _refuse_odd_generation(source: str, folder: Path) -> None:
    """transformers leaves out a damaged generation_config.json, and with it the end tokens. Raises ModelSourceError."""
    from transformers import GenerationConfig

    if not (folder / "generation_config.json").is_file():
        return
    try:
        GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and (found := storage_error(error)):
            raise found from error
        raise ModelSourceError(
            f"model.base_model = {source!r}: its generation_config.json cannot be read ({in_short(error)}); correct it, or take it away"
        ) from error


def not_applied(model: PreTrainedModel) -> list[str]:
    """What of a model's generation configuration would choose other tokens than the likeliest, or end elsewhere than at its end tokens."""
    settings = model.generation_config
    return [
        f"{name} = {value!r}" for name in OTHER_TOKENS if (value := getattr(settings, name, None)) not in (None, False, 0, 1, [])
    ]  # fmt: skip


def _wrong_weights(model: nn.Module, loading: Mapping[str, Any]) -> str | None:
    """What is wrong with a model's weights, by name; None where each is there once, of its shape, and finite.

    loading: what `from_pretrained` tells under `output_loading_info`.
    """
    for what in ("missing", "mismatched", "unexpected"):
        found = (
            str(each[0] if isinstance(each, tuple) else each) for each in loading.get(f"{what}_keys", ())
        )
        if names := sorted(name for name in found if what != "unexpected" or not name.endswith(CONSTANTS)):
            return f"has {what} weights: {first_of(names)}"
    wrong = [
        name
        for name, values in model.state_dict().items()
        if values.is_floating_point() and not bool(torch.isfinite(values).all())
    ]
    return f"has weights that are not finite: {first_of(wrong)}" if wrong else None


def check(model: PreTrainedModel, tokenizer: Any, source: str, d_model: int, n_layers: int) -> None:
    """Hold the configuration and the tokenizer against the real model.

    Raises ModelMismatchError with the key, its value and the real value; ModelSourceError for an
    architecture whose parts do not verify.
    """
    parts = find_structure(model)
    for key, value, real in (
        ("model.d_model", d_model, parts.unembedding.shape[1]),
        ("model.n_layers", n_layers, len(parts.blocks)),
    ):
        if value != real:
            raise ModelMismatchError(
                f"{key} = {value}, but {source} has {real}; set {key}: {real}, or leave it out"
            )
    embedding: Any = model.get_input_embeddings()
    size = embedding.weight.shape[0]
    check_tokenizer(tokenizer, size, source)
    largest = max(tokenizer.get_vocab().values())
    if size - 1 - largest > max(PADDING * size, min(MOST_PADDING, size // 2)):
        raise ModelMismatchError(
            f"the tokenizer of {source} has token ids up to {largest} only, and the model {size} "
            "embeddings; the tokenizer belongs to another model; put the model's own beside its weights (model.base_model)"
        )


def save(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write the snapshot: one float32 safetensors file, config without quantisation, tokenizer."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    plain: Any = _without_quantisation(model)
    plain.save_pretrained(folder, max_shard_size="1TB")
    tokenizer.save_pretrained(folder)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors are written for the owner only


def _arguments(source: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What to hand to `from_pretrained`: a place and keyword arguments."""
    place = locate(source)
    if place.gguf:
        return str(place.gguf.parent), {"gguf_file": place.gguf.name}
    if place.folder:
        return str(place.folder), {}
    return str(place.hub), {} if revision is None else {"revision": revision}


def _without_quantisation(model: nn.Module) -> nn.Module:
    """The same weights in a model that knows nothing of having been quantised.

    transformers refuses to save a model that it read from a GGUF file, although its weights are plain.
    """
    config: Any = model.config
    if getattr(config, "quantization_config", None) is None:
        return model
    values = config.to_dict()
    values.pop("quantization_config")
    clean = type(config).from_dict(values)
    model_class: Any = type(model)
    with torch.device("meta"):
        plain = model_class(clean)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        plain.generation_config = generation
    return plain


def _gguf_reader(source: str) -> Any:
    """Of a GGUF file, within `_one_gguf_parse`; else None."""
    path = locate(source).gguf
    if path is None:
        return None
    import gguf

    return gguf.GGUFReader(str(path))


@contextlib.contextmanager
def _one_gguf_parse() -> Iterator[None]:
    """Within the context, a GGUF file is parsed once, quickly.

    transformers parses the header (150,000 vocabulary entries, each a slice of a numpy memory map) for the
    tokenizer, the configuration and the weights again, and builds the map of tensor names for every
    module of the model: 30 of 37 seconds for SmolLM2-135M.
    """
    try:
        import gguf as gguf_module
    except ImportError as error:
        raise ModelSourceError("models in GGUF files need the package gguf; run pip install gguf") from error
    from transformers import modeling_gguf_pytorch_utils

    gguf: Any = gguf_module
    loader: Any = modeling_gguf_pytorch_utils

    class PlainReader(gguf_module.GGUFReader):
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if "_plain" not in self.__dict__:
                self._plain = np.asarray(self.data)  # an ndarray slices ten times faster than a memmap
            kind = np.dtype(dtype).newbyteorder(override_order or self.byte_order)
            return self._plain[offset : offset + kind.itemsize * int(count)].view(kind)

    original = gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm
    gguf.GGUFReader = functools.lru_cache(maxsize=1)(PlainReader)
    gguf.get_tensor_name_map = functools.lru_cache(maxsize=4)(original[1])
    loader.tqdm = lambda items, **_: items  # its bar does not heed disable_progress_bar
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm = original
