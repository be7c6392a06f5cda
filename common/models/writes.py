"""What attention and MLP of every block write to the residual stream, and attention by where it looked.

A block's output is its input plus what attention wrote plus what the MLP wrote, one after the other or side by side, with
a norm on the way out or without, in some families times a constant. Which modules write is found by computation: those
two of a block's children whose outputs, times a constant each, add up to what the block adds. Attention's write is linear
in the values that it read, with its pattern held (and the scale of a norm behind it): Σ over heads and over tokens read,
so that it splits by source exactly (Elhage et al. 2021).
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from ghosttrack.common.errors import ModelMismatchError
from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.linear_norm import LinearNorm
from ghosttrack.common.models.products import linear

_NAME = "ghosttrack_by_source"
EXACT = 2e-3
"""Relative error of a block's sum below which two of its children are what writes, in float32; rounding alone is allowed
more in half precision."""
EXACT_HALF = 3e-2
SURE = 1e-5
"""At which no other pair is looked at."""
ROUNDINGS = 4
"""Roundings of the stream itself that a block's sum is allowed, where what it adds is small beside the stream."""
QUERIES_AT_A_TIME = 256
"""Tokens whose attention patterns are held at a time, so that memory grows with the prompt and not with its square."""


class Writes(NamedTuple):
    """Of n chosen tokens of one text. before: [n, d_model], the stream as it enters the first block. attention: [n_blocks,
    n, n_sources, d_model], attention_bias: [n_blocks, n, d_model] (of the projection and of a norm behind it: from no
    token), mlp: [n_blocks, n, d_model], outputs: [n_blocks, n, d_model], block outputs. All float32, on the CPU.

    outputs[l] = before + Σ over blocks to l of Σ over sources of attention + attention_bias + mlp, to rounding. Of a block
    that cannot be taken apart so the three are NaN.
    """

    before: Tensor
    attention: Tensor
    attention_bias: Tensor
    mlp: Tensor
    outputs: Tensor


class WriteReader:
    """Reads what a model's blocks write, text after text; what is found of its structure is kept. untold: block → why what
    it writes cannot be told."""

    def __init__(self, model: LanguageModel) -> None:
        self.untold: dict[int, str] = {}
        self._model = model
        self._norms: dict[nn.Module, LinearNorm] = {}

    @torch.inference_mode()
    def read(
        self,
        tokens: Tensor,
        cache: DynamicCache | None,
        chosen: tuple[Tensor, Tensor],
        sources: Tensor,
        n_sources: int,
        *,
        by_head: bool = False,
    ) -> Writes:
        """tokens: int64 [batch, length], what comes after the tokens in the cache, which is used up (None: the
        model has none of its kind); shorter texts are
        padded on the right, where nothing sees them. chosen: int64 [n] each, rows and places in `tokens` to read at.
        sources: int64 [n, length of the whole], which source each token of the whole text is for each chosen one, in
        [0, n_sources). by_head: sources of `attention` are then head · n_sources + source.

        A block that is not the sum of its input and two of its children's outputs, or whose attention is not made of the
        values it read, is untold; with by_head ModelMismatchError is raised.
        """
        (row, place), model = chosen, self._model
        start = sources.shape[1] - tokens.shape[1]
        pieces: list[Writes] = []
        order: list[Tensor] = []
        step = tokens.shape[1] if cache is None else QUERIES_AT_A_TIME
        for first in range(0, tokens.shape[1], step):
            part = tokens[:, first : first + step]
            inside = ((place >= first) & (place < first + part.shape[1])).nonzero()[:, 0]
            seen = sources[inside, : start + first + part.shape[1]]
            here = row[inside], place[inside] - first
            reader = _Reader(model, self._norms, here, seen, n_sources, by_head)
            with reader.reading() if len(inside) else contextlib.nullcontext():
                model.run(part.to(model.device), cache=cache, before=start + first)
            if len(inside):
                pieces.append(reader.writes(self.untold))
                order.append(inside)
        if len(pieces) == 1:
            return pieces[0]
        whole, back = join_writes(pieces), torch.cat(order).argsort()
        return Writes(*(parts.index_select(axis, back) for parts, axis in zip(whole, _ALONG, strict=True)))


_ALONG = (0, 1, 1, 1, 1)
"""Along which axis of each of `Writes` tokens lie."""


def join_writes(parts: Sequence[Writes]) -> Writes:
    """Tokens one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(zip(*parts, strict=True), _ALONG, strict=True)
    return Writes(*(torch.cat(column, dim=axis) for column, axis in columns))


@dataclass
class _Seen:
    """What passed through one block. children: name → output at the chosen tokens, in order of the calls."""

    entered: Tensor
    children: dict[str, Tensor]
    shape: torch.Size
    by_source: Tensor | None = None
    projected: Tensor | None = None
    projection: Any = None
    attention_at: int = 0
    left: Tensor | None = None


class _Reader:
    """Hooks for one forward pass."""

    def __init__(
        self,
        model: LanguageModel,
        norms: dict[nn.Module, LinearNorm],
        chosen: tuple[Tensor, Tensor],
        sources: Tensor,
        n_sources: int,
        by_head: bool,
    ) -> None:
        self._model, self._norms, self._by_head = model, norms, by_head
        self._row, self._place = (places.to(model.device) for places in chosen)
        self._looked = nn.functional.one_hot(sources, n_sources).float().to(model.device)
        self._blocks: list[_Seen] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        AttentionInterface.register(_NAME, self._attend)
        AttentionMaskInterface.register(_NAME, eager_mask)
        config = self._model.backbone.config
        own = config._attn_implementation  # type: ignore[union-attr]
        handles = []
        for block in self._model.blocks:
            handles.append(block.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles += [
                child.register_forward_hook(self._child(name)) for name, child in block.named_children()
            ]
            handles.append(block.register_forward_hook(self._leave))
        config._attn_implementation = _NAME  # type: ignore[union-attr]
        try:
            yield
        finally:
            config._attn_implementation = own  # type: ignore[union-attr]
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, arguments: Any, named: Any) -> None:
        states = arguments[0] if arguments else named["hidden_states"]
        self._blocks.append(_Seen(self.at_chosen(states).float(), {}, states.shape))

    def _child(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            output = output if isinstance(output, Tensor) else output[0]
            seen = self._blocks[-1]
            # OPT's are [all tokens, d_model]
            if isinstance(output, Tensor) and output.numel() == seen.shape.numel():
                seen.children[name] = self.at_chosen(output.reshape(seen.shape)).float()

        return hook

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        left = output if isinstance(output, Tensor) else output[0]
        self._blocks[-1].left = self.at_chosen(left).float()

    def at_chosen(self, states: Tensor) -> Tensor:
        return states[self._row, self._place]

    def _attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **named: Any
    ) -> Any:
        """The family's own attention in the open, and its output at the chosen tokens by source."""
        own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        if own is None:  # its weights are not to be had, so that its block stays untold
            return sdpa_attention_forward(module, query, key, value, mask, **named)
        output, weights = own(module, query, key, value, mask, **named)
        seen = self._blocks[-1]
        seen.attention_at = len(seen.children)
        pattern = weights[self._row, :, self._place].float()  # [n, heads, keys]
        looked = self._looked[:, -value.shape[2] :]  # a sliding window's cache holds the last keys only
        rows, counts = self._row.unique_consecutive(return_counts=True)
        many = counts.tolist()
        seen.by_source = torch.cat(
            [
                torch.einsum(
                    "nhk,nks,hkd->nshd", own, by, of.repeat_interleave(own.shape[1] // len(of), dim=0)
                )
                for own, by, of in zip(
                    pattern.split(many), looked.split(many), value[rows].float(), strict=True
                )
            ]
        )
        handles: list[Any] = []

        def projected(child: nn.Module, arguments: Any, result: Tensor) -> None:
            """The first matrix that is applied after attention is its output projection."""
            for handle in handles:
                handle.remove()
            seen.projection, seen.projected = child, self.at_chosen(result).float()

        for child in module.modules():
            weight = getattr(child, "weight", None)
            if isinstance(weight, Tensor) and weight.dim() == 2:
                handles.append(child.register_forward_hook(projected))
        return output, weights

    def writes(self, untold: dict[int, str]) -> Writes:
        """Blocks that cannot be told are added to `untold`."""
        attention: list[Tensor] = []
        biases: list[Tensor] = []
        mlp: list[Tensor] = []
        for number, seen in enumerate(self._blocks):
            try:
                of_block = self._of_block(seen, number)
            except ModelMismatchError as error:
                if self._by_head:
                    raise
                untold[number] = str(error)
                nothing = torch.full_like(seen.entered, torch.nan)
                of_block = nothing[:, None].expand(-1, self._looked.shape[-1], -1), nothing, nothing
            for parts, part in zip((attention, biases, mlp), of_block, strict=True):
                parts.append(part)
        outputs = [seen.left for seen in self._blocks if seen.left is not None]
        stacks = [torch.stack(parts).cpu() for parts in (attention, biases, mlp, outputs)]
        return Writes(self._blocks[0].entered.cpu(), *stacks)

    def _of_block(self, seen: _Seen, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """attention, attention_bias and mlp of one block. Raises ModelMismatchError."""
        if seen.by_source is None or seen.projection is None:
            raise ModelMismatchError(
                f"block {number} of {type(self._model.model).__name__} does not show what its attention reads, so that what "
                "it writes cannot be split by source"
            )
        by_source = self._project(seen)
        added, (first, second), scales = self._writers(seen, number)
        bias = seen.projected - by_source.sum(1)  # type: ignore[operator]
        if not _close(added, seen.projected):  # a norm behind it
            norm = self._norm(self._model.blocks[number].get_submodule(first))
            divisor = norm.divisor(seen.projected, added)  # type: ignore[arg-type]
            by_source = norm.apply(by_source, divisor[:, None])
            bias = added - by_source.sum(1)
        return scales[0] * by_source, scales[0] * bias, scales[1] * seen.children[second]

    def _project(self, seen: _Seen) -> Tensor:
        """What each source gives to the output projection's result, its bias left out: [n, n_sources, d_model]."""
        assert seen.by_source is not None
        with align_module_device(seen.projection):  # its block may be offloaded
            weight = seen.projection.weight.float()
        given = seen.by_source
        if not isinstance(seen.projection, nn.Linear):
            weight = weight.T  # GPT-2's Conv1D is the other way round
        if not self._by_head:
            return linear(given.flatten(2), weight)
        n, n_sources, n_heads, width = given.shape
        heads = torch.einsum("nshd,mhd->nhsm", given, weight.unflatten(1, (n_heads, width)))
        return heads.reshape(n, n_heads * n_sources, -1)

    def _writers(self, seen: _Seen, number: int) -> tuple[Tensor, tuple[str, str], tuple[float, float]]:
        """What attention added before its constant, the names of the two children that write, attention's first, and what
        each is multiplied by."""
        change = (seen.left - seen.entered).flatten()  # type: ignore[operator]
        names = list(seen.children)
        pairs = list(combinations(names[seen.attention_at :], 2))
        pairs += [
            (late, early) for late in names[seen.attention_at :] for early in names[: seen.attention_at]
        ]
        dtype = self._model.unembedding.dtype
        rounding = ROUNDINGS * torch.finfo(dtype).eps * float(seen.left.norm())  # type: ignore[union-attr]
        size = max(float(change.norm()), 1e-12)
        limit = (EXACT if dtype == torch.float32 else EXACT_HALF) + rounding / size
        for fitted in (False, True):  # a constant before both only where they do not add up without
            best: tuple[float, tuple[str, str], Tensor] | None = None
            for pair in pairs:
                both = torch.stack([seen.children[name].flatten() for name in pair], dim=1)
                factors = (
                    torch.linalg.lstsq(both, change[:, None]).solution[:, 0]
                    if fitted
                    else torch.ones(2).to(both)
                )
                error = float((both @ factors - change).norm()) / size
                if best is None or error < best[0]:
                    best = (error, pair, factors)
                if error < SURE:
                    break
            if best is not None and best[0] < limit:
                _, pair, factors = best
                return seen.children[pair[0]], pair, (float(factors[0]), float(factors[1]))
        raise ModelMismatchError(
            f"block {number} of {type(self._model.model).__name__} is not the sum of its input and what two of its parts "
            "write, so that its step cannot be accounted for by attention and MLP"
        )

    def _norm(self, module: nn.Module) -> LinearNorm:
        if module not in self._norms:
            model = self._model
            self._norms[module] = LinearNorm.of(module, model.d_model, model.device, model.unembedding.dtype)
        return self._norms[module]


def _close(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and bool((first - second).norm() <= 1e-3 * first.norm())
