"""The parts of a causal language model, found by their place in it and verified by computation.

A backbone of any architecture is a stack of blocks that pass a residual stream on to each other, then a norm; a head
makes logits of its outputs. Which modules these are is read off one small forward pass: the blocks are the list of modules whose
outputs are the next one's inputs, the final norm is what turns the last output into the backbone's. A model in which
they are not to be found so cannot be studied here, and the error says what failed.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from ghosttrack.common.engine.device_errors import device_error
from ghosttrack.common.errors import ModelSourceError

PROBE_TOKENS = 8
SMALL = 1e-3
"""Length of a state, relative to its own, at which a soft cap of the logits is linear."""


@dataclass(frozen=True)
class Structure:
    """backbone: from tokens to states after `final_norm`; blocks: its stack; unembedding: [n_vocabulary, d_model], such
    that the logits, before a soft cap and without a bias, are unembedding @ state."""

    backbone: nn.Module
    blocks: nn.ModuleList
    final_norm: nn.Module
    unembedding: Tensor
    beside: int | None
    """How many values a block puts out beside its states; None: the states alone, not in a tuple."""


def find_structure(model: PreTrainedModel) -> Structure:
    """Parts of a model. Raises ModelSourceError naming the architecture and what did not verify."""
    head = model.get_output_embeddings()
    inner = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    backbones = list(
        dict.fromkeys(p for p in (model.base_model, model.get_decoder(), *inner) if p is not model)
    )
    if not backbones or head is None:
        raise _refused(model, "it is no causal language model with a backbone and a head")
    ids = probe_tokens(model)
    found = None
    for backbone, blocks in (
        (part, blocks) for part in backbones for blocks in candidate_blocks(model, part)
    ):
        if trace := _trace(model, backbone, blocks, ids):
            found = backbone, blocks, trace, _final_norm(trace)
            if found[3] is not None:
                break
    if found is None:
        raise _refused(
            model,
            "no list of modules in it passes a residual stream on, where each block's output is the next one's input",
        )
    backbone, blocks, trace, final_norm = found
    if final_norm is None:
        raise _refused(
            model,
            "what it makes of the last block's output is not a single module between the blocks and the head",
        )
    with torch.inference_mode():
        made = head_of(model, backbone, trace.final)
        if not close(made, trace.logits):
            raise _refused(
                model, f"its logits are not its head's of the final states ({_apart(made, trace.logits)})"
            )
        half = trace.logits.shape[1] // 2
        earlier = model(input_ids=ids[:, :half], use_cache=False).logits
        if not close(earlier, trace.logits[:, :half]):
            raise _refused(
                model, f"its tokens see those that come later ({_apart(earlier, trace.logits[:, :half])})"
            )
        single = final_norm(trace.outputs[-1][0, -1:])
        if not close(single, trace.final[0, -1:]):
            raise _refused(model, "its final norm is not a function of one state")
    return Structure(backbone, blocks, final_norm, _unembedding(model, backbone, head, trace), trace.beside)


def probe_tokens(model: PreTrainedModel, rows: int = 1) -> Tensor:
    """Tokens to try a model with, int64 [rows, PROBE_TOKENS]: spread over its vocabulary."""
    embedding: Any = model.get_input_embeddings()
    size = int(model.config.get_text_config().vocab_size)
    ids = (torch.arange(rows * PROBE_TOKENS) * 7919 + 13) % size
    device = embedding.weight.device
    return ids.view(rows, PROBE_TOKENS).to("cpu" if device.type == "meta" else device)


def candidate_blocks(model: PreTrainedModel, backbone: nn.Module) -> list[nn.ModuleList]:
    """Lists of as many modules as the configuration names layers, the outermost first."""
    depth = int(model.config.get_text_config().num_hidden_layers)
    lists = [
        (name.count("."), module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    return [module for _, module in sorted(lists, key=lambda pair: pair[0])]


@dataclass(frozen=True)
class _Trace:
    """One forward pass. outputs: of the blocks. after: modules outside the blocks that took the last block's output,
    with what they made of it. final: the backbone's output. logits: the model's."""

    outputs: list[Tensor]
    after: list[tuple[nn.Module, Tensor]]
    final: Tensor
    logits: Tensor
    beside: int | None


def _trace(model: PreTrainedModel, backbone: nn.Module, blocks: nn.ModuleList, ids: Tensor) -> _Trace | None:
    """None where the blocks are not called one after another, each on the output of the one before."""
    calls: list[tuple[nn.Module, Tensor | None, Any]] = []
    beside: list[int | None] = []

    def hook(module: nn.Module, arguments: Any, keywords: Any, output: Any) -> None:
        states = arguments[0] if arguments else keywords.get("hidden_states")
        if module is blocks[-1]:
            beside.append(None if isinstance(output, Tensor) else len(output) - 1)
        calls.append((module, states if isinstance(states, Tensor) else None, first_of(output)))

    inside = {module for block in blocks for module in block.modules()}
    watched = [*blocks, *(module for module in backbone.modules() if module not in inside)]
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in watched]
    try:
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and (found := device_error(error)):
            raise found from error
        raise _refused(
            model, f"it does not read tokens alone ({' '.join(str(error).split())[:200]})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    members = set(blocks)
    chain = [call for call in calls if call[0] in members]
    if [module for module, _, _ in chain] != list(blocks):
        return None
    outputs: list[Tensor] = [output for _, _, output in chain]
    for before, (_, states, _) in zip(outputs, chain[1:], strict=False):
        if states is None or not isinstance(before, Tensor) or not same(states, before):
            return None
    finals = [output for module, _, output in calls if module is backbone]
    if len(finals) != 1 or not isinstance(finals[0], Tensor) or outputs[-1].ndim != 3:
        return None
    after = [
        (module, output)
        for module, states, output in calls
        if module not in members
        and states is not None
        and isinstance(output, Tensor)
        and same(states, outputs[-1])
    ]
    return _Trace(outputs, after, finals[0], logits, beside[-1])


def _final_norm(trace: _Trace) -> nn.Module | None:
    for module, output in trace.after:
        if same(output, trace.final):
            return module
    return nn.Identity() if same(trace.outputs[-1], trace.final) else None


def _unembedding(model: PreTrainedModel, backbone: nn.Module, head: Any, trace: _Trace) -> Tensor:
    """The head's weight times its scale, which is read off small states, where a soft cap is linear; or off whole ones, beside
    which a bias in half precision leaves something of a state."""
    weight: Tensor = head.weight
    width = trace.outputs[-1].shape[-1]
    if weight.ndim != 2 or weight.shape[1] != width:
        raise _refused(
            model, f"its head reads states of width {weight.shape[-1]}, and its blocks put out width {width}"
        )
    loose = 10 if weight.dtype == torch.float32 else 1
    with torch.inference_mode():
        for length in (SMALL, 1):
            direction = trace.final[0, -1:] * length
            linear = direction.to(weight.device) @ weight.T
            both = [head_of(model, backbone, sign * direction[None])[0].to(linear) for sign in (1, -1)]
            made = (both[0] - both[1]) / 2
            plain = linear.double()
            scale = float((made.double() * plain).sum() / plain.square().sum())
            expected = (scale * plain).to(made)
            if abs(scale) >= SMALL and close(made, expected, loose):
                return weight if abs(scale - 1) < 0.01 else weight * scale
    raise _refused(model, f"its logits are not linear in its final states ({_apart(made, expected)})")


def head_of(model: PreTrainedModel, backbone: nn.Module, final: Tensor) -> Tensor:
    """Logits of states after the final norm, [batch, position, d_model], by the model's own code after its backbone."""

    def put_out(*_: Any, **__: Any) -> _Final:
        return _Final(last_hidden_state=final)

    with acting(backbone, put_out):
        ids = torch.zeros(final.shape[:2], dtype=torch.long, device=final.device)
        return model(input_ids=ids, use_cache=False).logits


class _Final(BaseModelOutputWithPast):
    """A backbone's output with nothing but its last states."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


@contextlib.contextmanager
def acting(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the context, a module does this instead of what it does."""
    own = module.__dict__.get("forward")  # accelerate's, where it has put one there
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward  # the class's own is there again
        else:
            module.forward = own


def first_of(output: Any) -> Any:
    """The states among what a module puts out."""
    return output if isinstance(output, Tensor) else output[0]


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a is b or bool(torch.equal(a, b.to(a.device))))


def close(found: Tensor, expected: Tensor, loose: float = 1.0) -> bool:
    """Equal but for rounding, measured against the largest number."""
    if found.shape != expected.shape:
        return False
    tolerance = 1e-4 if expected.dtype in (torch.float32, torch.float64) else 3e-2
    most = float(expected.abs().max())
    return float((found.to(expected) - expected).abs().max()) <= loose * tolerance * max(most, 1e-30)


def _apart(found: Tensor, expected: Tensor) -> str:
    if found.shape != expected.shape:
        return f"shapes {tuple(found.shape)} and {tuple(expected.shape)}"
    return f"up to {float((found.to(expected) - expected).abs().max()):.3g} apart, of {float(expected.abs().max()):.3g}"


def _refused(model: PreTrainedModel, what: str) -> ModelSourceError:
    kind = getattr(model.config, "model_type", type(model).__name__)
    return ModelSourceError(
        f"the architecture {kind!r} ({type(model).__name__}) cannot be read: {what}; take a decoder-only model of blocks "
        "on one residual stream"
    )
