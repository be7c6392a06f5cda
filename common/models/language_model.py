"""Language models for inference: loading a snapshot, and reading the residual stream at block outputs.

Hidden states are block outputs, before the final norm: `hidden_states[-1]` of Hugging Face is after
it, so the blocks are hooked. To add an architecture, add a line to `FAMILIES` and one to `FAMILIES` of
`tests/tiny_models.py`, with which all tests of architectures run on it.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ghosttrack.common.errors import ModelMismatchError, ModelSourceError


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps its parts, as attribute paths from the causal language model."""

    backbone: str
    blocks: str
    final_norm: str


_LLAMA = Family("model", "model.layers", "model.norm")
FAMILIES = {
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "gpt2": Family("transformer", "transformer.h", "transformer.ln_f"),
    "gpt_neox": Family("gpt_neox", "gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "llama": _LLAMA,
    "phi": Family("model", "model.layers", "model.final_layernorm"),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""Hugging Face `model_type` to family."""


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
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def end_tokens(self) -> tuple[list[int], list[int]]:
        """The tokens that end a text: of tokenizer, config and generation config. Also those that do not exist."""
        config: Any = self.model.config
        kept = [self.tokenizer.eos_token_id]
        for holder in (config, config.get_text_config(), getattr(self.model, "generation_config", None)):
            ends = getattr(holder, "eos_token_id", None)
            kept += ends if isinstance(ends, (list, tuple)) else [ends]
        known = sorted({int(token) for token in kept if token is not None})
        return (
            [token for token in known if 0 <= token < self.n_vocabulary],
            [token for token in known if not 0 <= token < self.n_vocabulary],
        )

    @property
    def device(self) -> torch.device:
        return self.unembedding.device

    @contextlib.contextmanager
    def reading(self, layers: Sequence[int], sink: Callable[[int, Tensor], None]) -> Iterator[None]:
        """Within the context, every forward pass calls `sink(layer, states [batch, position, d_model])`
        with each listed block's output, in order of depth."""

        def hook_of(layer: int) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, arguments: Any, output: Any) -> None:
                sink(layer, output if isinstance(output, Tensor) else output[0])

            return hook

        handles = [self.blocks[layer].register_forward_hook(hook_of(layer)) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def replacing(
        self, layers: Sequence[int], replacement: Callable[[int, Tensor], Tensor]
    ) -> Iterator[None]:
        """Within the context, the output of each listed block is `replacement(layer, output)`, of the same shape."""

        def hook_of(layer: int) -> Callable[[nn.Module, Any, Any], Any]:
            def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
                if isinstance(output, Tensor):
                    return replacement(layer, output)
                return (replacement(layer, output[0]), *output[1:])

            return hook

        handles = [self.blocks[layer].register_forward_hook(hook_of(layer)) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def going_on_after(self, layer: int, states: Tensor) -> Iterator[None]:
        """Within the context, block `layer` puts out `states` [batch, position, d_model]; no block up to it is computed."""

        def pass_on(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            return hidden_states

        def put_out(*_: Any, **__: Any) -> Tensor:
            return states

        skipped = list(self.blocks)[: layer + 1]
        for block in skipped:
            block.forward = put_out if block is skipped[-1] else pass_on
        try:
            yield
        finally:
            for block in skipped:
                del block.forward  # the class's own is there again

    @functools.cached_property
    def caches(self) -> bool:
        """Whether keys and values are all that the blocks keep of earlier tokens."""
        kinds = getattr(self.model.config.get_text_config(), "layer_types", None) or ["full_attention"]
        return {"full_attention", "sliding_attention"}.issuperset(kinds)

    @torch.inference_mode()
    def run(
        self,
        input_ids: Tensor,
        cache: DynamicCache | None = None,
        before: int = 0,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """One forward pass up to and with the final norm: [batch, position, d_model].

        input_ids: [batch, position]; cache: of `before` tokens of each row, which grows. mask: [batch, before +
        position], 0 for columns that are not to be seen; positions: [batch, position], where they do not just count
        on from `before`.
        """
        if positions is None:
            positions = torch.arange(before, before + input_ids.shape[1], device=input_ids.device)[None]
        places = {"position_ids": positions} if "position_ids" in self._arguments else {}
        return self.backbone(
            input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **places
        ).last_hidden_state  # fmt: skip

    @functools.cached_property
    def _arguments(self) -> frozenset[str]:
        """What the backbone's forward pass can be given."""
        return frozenset(inspect.signature(self.backbone.forward).parameters)

    @torch.inference_mode()
    def final_states(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """One whole forward pass up to and with the final norm: [batch, position, d_model].

        input_ids, position_ids: as for `read_blocks`.
        """
        output = self.backbone(input_ids=input_ids, position_ids=position_ids, use_cache=False)
        return output.last_hidden_state

    @torch.inference_mode()
    def logits(self, final: Tensor) -> Tensor:
        """final: [..., d_model], states after the final norm → [..., n_vocabulary]."""
        logits = self.model.get_output_embeddings()(final)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

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
            self.backbone(input_ids=input_ids, position_ids=position_ids, use_cache=False)


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_language_model(folder: Path, dtype: str = "float32") -> LanguageModel:
    """The model and tokenizer of a snapshot folder, ready for inference.

    dtype: arithmetic of the forward pass. Raises ModelSourceError for a folder that does not load or
    an architecture that is not in `FAMILIES`.
    """
    transformers_logging.disable_progress_bar()
    try:
        kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
        family = family_of(kind)
        model = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, dtype=getattr(torch, dtype)
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelSourceError(
            f"{folder} is not a usable model snapshot: {' '.join(str(error).split())}"
        ) from error
    model.requires_grad_(False).to(choose_device())
    unembedding = model.get_output_embeddings().weight
    if len(tokenizer) > unembedding.shape[0]:
        raise ModelMismatchError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and the model only "
            f"{unembedding.shape[0]}; it belongs to another model"
        )
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        backbone=model.get_submodule(family.backbone),
        blocks=model.get_submodule(family.blocks),
        final_norm=model.get_submodule(family.final_norm),
        unembedding=unembedding,
    )


def family_of(model_type: str) -> Family:
    if model_type not in FAMILIES:
        raise ModelSourceError(
            f"the architecture {model_type!r} is not supported yet; supported are {', '.join(sorted(FAMILIES))}. "
            "To add it, say in FAMILIES in common/models/language_model.py where it keeps its backbone, blocks and final norm"
        )
    return FAMILIES[model_type]
