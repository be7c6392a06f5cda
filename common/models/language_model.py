"""Language models for inference: loading a snapshot, and reading the residual stream at block outputs.

Hidden states are block outputs, before the final norm: `hidden_states[-1]` of Hugging Face is after
it, so the blocks are hooked. Where a model keeps its blocks, and what it can do, is found out when it is loaded
(`structure`); a line in `FAMILIES` of `tests/tiny_models.py` runs all tests of architectures on another one.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from ghosttrack.common.engine.storage_errors import storage_error
from ghosttrack.common.errors import ModelMismatchError, ModelSourceError
from ghosttrack.common.models.branching import branches_right
from ghosttrack.common.models.going_on import goes_on_right
from ghosttrack.common.models.placing import load_placed
from ghosttrack.common.models.products import by_linear
from ghosttrack.common.models.sizes import context_of
from ghosttrack.common.models.structure import acting, close, find_structure, first_of, head_of, probe_tokens


@dataclass(frozen=True)
class Segments:
    """Rows of a packed batch as rows of one segment each, padded on the right. row, column: int64 [batch, position], where
    each token goes."""

    row: Tensor
    column: Tensor

    @classmethod
    def of(cls, starts: Tensor) -> "Segments":
        """Where the tokens of a packed batch go. starts: bool [batch, position], where segments begin; the first
        column is one."""
        place = torch.arange(starts.numel(), device=starts.device)
        row = starts.flatten().cumsum(0) - 1
        first = starts.flatten().nonzero()[:, 0]
        return cls(row.view(starts.shape), (place - first[row]).view(starts.shape))

    def cut(self, values: Tensor) -> Tensor:
        """[batch, position, …] → [segment, place, …]."""
        shape = (int(self.row.max()) + 1, int(self.column.max()) + 1, *values.shape[2:])
        cut = values.new_zeros(shape)
        cut[self.row.to(values.device), self.column.to(values.device)] = values
        return cut

    def join(self, states: Tensor) -> Tensor:
        """[segment, place, …] → [batch, position, …]."""
        return states[self.row.to(states.device), self.column.to(states.device)]


class _StopForward(Exception):
    """Ends a forward pass after the last block that is asked for."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with named parts."""

    model: PreTrainedModel
    tokenizer: Any
    backbone: nn.Module
    blocks: nn.ModuleList
    final_norm: nn.Module
    unembedding: Tensor
    """[n_vocabulary, d_model]"""
    packs: bool
    """Whether one row can hold segments that do not see each other; else each segment is read in a row of its own."""
    caches: bool
    """Whether keys and values are all that the blocks keep of earlier tokens."""
    branches: bool = False
    """Whether one row can hold texts that branch off each other, by a mask of its own for every token (`branching`)."""
    beside: int | None = None
    """How many values a block puts out beside its states; None: the states alone, not in a tuple."""
    _layout: list["Segments"] = field(default_factory=list)
    """How the rows of the forward pass at work were cut into segments; none, where they were not."""

    @property
    def d_model(self) -> int:
        return self.unembedding.shape[1]

    @property
    def n_vocabulary(self) -> int:
        """Tokens that have a logit; a tokenizer may know fewer."""
        return self.unembedding.shape[0]

    @property
    def longest(self) -> int | None:
        """Tokens that the model sees at most; None: its configuration names no bound."""
        return context_of(self.model.config)

    def end_tokens(self) -> tuple[list[int], list[int | str]]:
        """The tokens that end a text: of tokenizer, config and generation config. Also those that do not exist."""
        config: Any = self.model.config
        kept = [self.tokenizer.eos_token_id]
        for holder in (config, config.get_text_config(), getattr(self.model, "generation_config", None)):
            ends = getattr(holder, "eos_token_id", None)
            kept += ends if isinstance(ends, (list, tuple)) else [ends]
        names = self.tokenizer.get_vocab()
        named = {
            end if isinstance(end, int) else names.get(str(end), str(end)) for end in kept if end is not None
        }
        known = {end for end in named if isinstance(end, int) and 0 <= end < self.n_vocabulary}
        return sorted(known), sorted(named - known, key=str)

    @property
    def device(self) -> torch.device:
        return self.unembedding.device

    @contextlib.contextmanager
    def reading(self, layers: Sequence[int], sink: Callable[[int, Tensor], None]) -> Iterator[None]:
        """Within the context, every forward pass calls `sink(layer, states [batch, position, d_model])`
        with each listed block's output on `device`, in order of depth."""

        def read(layer: int, output: Any) -> None:
            sink(layer, self._packed(first_of(output).to(self.device)))

        with self._watching(layers, read):
            yield

    @contextlib.contextmanager
    def replacing(
        self, layers: Sequence[int], replacement: Callable[[int, Tensor], Tensor]
    ) -> Iterator[None]:
        """Within the context, the output of each listed block is `replacement(layer, output)`, of the same shape."""

        def put(layer: int, output: Any) -> Any:
            states = first_of(output)
            new = self._in_segments(replacement(layer, self._packed(states.to(self.device))))
            new = new.to(states.device)
            return new if isinstance(output, Tensor) else (new, *output[1:])

        with self._watching(layers, put):
            yield

    @contextlib.contextmanager
    def _watching(self, layers: Sequence[int], see: Callable[[int, Any], Any]) -> Iterator[None]:
        """Within the context, `see` gets what each listed block puts out; what it returns, if anything, takes its place."""

        def hook_of(layer: int) -> Callable[[nn.Module, Any, Any], Any]:
            return lambda module, arguments, output: see(layer, output)

        with contextlib.ExitStack() as stack:
            for layer in layers:
                stack.callback(self.blocks[layer].register_forward_hook(hook_of(layer)).remove)
            yield

    @contextlib.contextmanager
    def going_on_after(self, layer: int, states: Tensor) -> Iterator[None]:
        """Within the context, block `layer` puts out `states` [batch, position, d_model]; no block up to it is computed."""

        def form(output: Tensor) -> Any:
            return output if self.beside is None else (output, *[None] * self.beside)

        def pass_on(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            return form(hidden_states)

        def put_out(*_: Any, **__: Any) -> Any:
            return form(self._in_segments(states))

        with contextlib.ExitStack() as stack:
            for block in self.blocks[:layer]:
                stack.enter_context(acting(block, pass_on))
            stack.enter_context(acting(self.blocks[layer], put_out))
            yield

    @torch.inference_mode()
    def run(
        self,
        input_ids: Tensor,
        cache: DynamicCache | None = None,
        before: int = 0,
        mask: Any = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """One forward pass up to and with the final norm: [batch, position, d_model].

        input_ids: [batch, position]; cache: of `before` tokens of each row, which grows. mask: [batch, before +
        position], 0 for columns that are not to be seen, or of the form of `branching.masks`; positions: [batch, position], where they do not just count
        on from `before`.
        """
        if positions is None:
            positions = torch.arange(before, before + input_ids.shape[1], device=input_ids.device)[None]
        positions = positions.expand(len(input_ids), -1).contiguous()  # some take it apart
        places = {"position_ids": positions} if "position_ids" in self.arguments else {}
        return self.backbone(
            input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **places
        ).last_hidden_state  # fmt: skip

    @functools.cached_property
    def arguments(self) -> frozenset[str]:
        """What the backbone's forward pass can be given."""
        return frozenset(inspect.signature(self.backbone.forward).parameters)

    @torch.inference_mode()
    def final_states(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """One whole forward pass up to and with the final norm: [batch, position, d_model].

        input_ids, position_ids: as for `read_blocks`.
        """
        starts = torch.ones_like(position_ids, dtype=torch.bool)
        starts[:, 1:] = position_ids[:, 1:] != position_ids[:, :-1] + 1
        if self.packs or int(starts.sum()) == len(starts):
            return self.run(input_ids, positions=position_ids)
        self._layout.append(Segments.of(starts))
        try:
            return self._packed(self.run(self._in_segments(input_ids)))
        finally:
            self._layout.clear()

    def _packed(self, states: Tensor) -> Tensor:
        """States as a caller has them: of segments that are read in rows of their own, in the rows of the corpus again."""
        return self._layout[0].join(states) if self._layout else states

    def _in_segments(self, values: Tensor) -> Tensor:
        """The reverse of `_packed`."""
        return self._layout[0].cut(values) if self._layout else values

    @torch.inference_mode()
    def logits(self, final: Tensor) -> Tensor:
        """The logits of all tokens, caps and scales included. final: [..., d_model], states after the final norm →
        [..., n_vocabulary]."""
        flat = final.reshape(1, -1, final.shape[-1])
        logits = head_of(self.model, self.backbone, flat)[0]
        return logits.reshape(*final.shape[:-1], logits.shape[-1])

    @torch.inference_mode()
    def read_blocks(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        layers: Sequence[int],
        sink: Callable[[int, Tensor], None],
    ) -> None:
        """One forward pass, stopped after the deepest listed block; see `reading` for `sink`.

        input_ids, position_ids: [batch, position]. Where position_ids restart, a new segment begins
        and sees nothing before it.
        """
        last = max(layers)

        def stop_after_last(layer: int, states: Tensor) -> None:
            sink(layer, states)
            if layer == last:
                raise _StopForward

        with self.reading(layers, stop_after_last), contextlib.suppress(_StopForward):
            self.final_states(input_ids, position_ids)


def load_language_model(
    folder: Path, dtype: str = "float32", devices: str = "auto", offload: str = "none"
) -> LanguageModel:
    """The model and tokenizer of a snapshot folder, ready for inference.

    dtype: arithmetic of the forward pass. devices, offload: see `placing`. Raises ModelSourceError for a folder that does not
    load or a model whose parts do not verify (`structure`), ModelMismatchError for a tokenizer of another model.
    """
    transformers_logging.disable_progress_bar()
    try:
        model = load_placed(folder, dtype, devices, offload).eval()
        # as its tokenizer.json has it: classes of families may build another
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if found := storage_error(error, folder, "read"):
            raise found from error
        raise ModelSourceError(
            f"{folder} is not a usable model snapshot: {' '.join(str(error).split())}"
        ) from error
    model.requires_grad_(False)
    by_linear(model)
    check_tokenizer(tokenizer, model.get_input_embeddings().weight.shape[0], str(folder))
    return understand(model, tokenizer)


@functools.lru_cache(maxsize=1)
def shared_language_model(folder: Path, dtype: str, devices: str, offload: str) -> LanguageModel:
    """`load_language_model` where the units of one process read the same one after another: it is loaded once."""
    return load_language_model(folder, dtype, devices, offload)


def understand(model: PreTrainedModel, tokenizer: Any) -> LanguageModel:
    """A model with its parts found and verified, and what it can do tried out. Raises ModelSourceError."""
    parts = find_structure(model)
    own = parts.backbone, parts.blocks, parts.final_norm, parts.unembedding
    found = LanguageModel(model, tokenizer, *own, packs=True, caches=True, beside=parts.beside)
    found = replace(found, packs=_packs(found))
    found = replace(found, caches=_keeps_keys_only(model) and goes_on_right(found))
    return replace(found, branches=branches_right(found) and goes_on_right(replace(found, branches=True)))


def _keeps_keys_only(model: PreTrainedModel) -> bool:
    """Whether the configuration names no layers that keep anything but keys and values of earlier tokens."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"]
    return {"full_attention", "sliding_attention"}.issuperset(kinds)


@torch.inference_mode()
def _packs(model: LanguageModel) -> bool:
    """Whether the model takes positions that restart for segments that do not see each other."""
    if "position_ids" not in model.arguments:
        return False
    ids = probe_tokens(model.model)
    half = ids.shape[1] // 2
    positions = torch.arange(ids.shape[1], device=ids.device)[None] % half
    both = model.final_states(ids, positions)
    return all(close(both[:, part], model.run(ids[:, part])) for part in (slice(half), slice(half, None)))


def check_tokenizer(tokenizer: Any, n_embeddings: int, source: str) -> None:
    """Raises ModelMismatchError where a tokenizer makes tokens for which the model has no embedding."""
    largest = max(tokenizer.get_vocab().values())
    if largest >= n_embeddings:
        raise ModelMismatchError(
            f"the tokenizer of {source} has token ids up to {largest}, but the model only {n_embeddings} embeddings; the "
            "tokenizer belongs to another model; put the model's own beside its weights (model.base_model)"
        )
