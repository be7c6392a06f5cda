"""From a direction in the residual stream to what it does to the logits: direct logit attribution.

The final norm is a division by a scale of the whole state and a gain a coordinate (for LayerNorm, after the mean over
coordinates is taken off). With the scale held at that of the final state, the logits are linear in what is written to
the stream, and the direct effect of a direction on a token is its product with the token's row of the unembedding.
A soft cap of the logits is left out: it keeps their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ghosttrack.common.models.language_model import LanguageModel
from ghosttrack.common.models.linear_norm import LinearNorm
from ghosttrack.common.models.products import linear

DIRECTIONS_AT_A_TIME, TOKENS_AT_A_TIME = 1024, 2048
"""Effects that are made at a time: with few directions the tokens' rows wait for memory."""


@dataclass(frozen=True)
class ReadOut:
    """weight: [n_vocabulary, d_model] float32, the unembedding with the final norm's gain (and centring) in it, so that
    effects are weight @ direction / scale. centred: whether the norm takes off the mean."""

    weight: Tensor
    centred: bool

    @classmethod
    @torch.inference_mode()
    def of(cls, model: LanguageModel) -> "ReadOut":
        norm = LinearNorm.of(model.final_norm, model.d_model, model.device, model.unembedding.dtype)
        weight = model.unembedding.float() * norm.gain
        if norm.centred:
            weight -= weight.mean(dim=1, keepdim=True)
        return cls(weight.cpu(), norm.centred)

    def scale(self, final: Tensor) -> Tensor:
        """What the final norm divides states [..., d_model] by: [...]."""
        if self.centred:
            final = final - final.mean(dim=-1, keepdim=True)
        return final.float().square().mean(dim=-1).sqrt()

    def promoted(
        self, directions: Tensor, pieces: Sequence[str], count: int
    ) -> tuple[tuple[list[list[str]], list[list[float]]], tuple[list[list[str]], list[list[float]]]]:
        """The tokens whose logits each direction [n, d_model] raises and lowers most, as texts, the most first, each with
        its effect: in logits, times the final norm's scale.

        pieces: the text of every token of the tokenizer.
        """
        raised: tuple[list[list[str]], list[list[float]]] = ([], [])
        lowered: tuple[list[list[str]], list[list[float]]] = ([], [])
        for part in directions.split(DIRECTIONS_AT_A_TIME):
            found: tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]] = ([], [])
            for start in range(0, len(pieces), TOKENS_AT_A_TIME):
                effect = linear(part, self.weight[start : min(start + TOKENS_AT_A_TIME, len(pieces))])
                for best, largest in zip(found, (True, False), strict=True):
                    values, tokens = effect.topk(min(count, effect.shape[1]), dim=1, largest=largest)
                    best.append((values, tokens + start))
            for kept, best, largest in zip((raised, lowered), found, (True, False), strict=True):
                values, tokens = (torch.cat(columns, dim=1) for columns in zip(*best, strict=True))
                values, place = values.topk(count, dim=1, largest=largest)
                kept[0].extend([pieces[token] for token in row] for row in tokens.gather(1, place).tolist())
                kept[1].extend(values.tolist())
        return raised, lowered
