"""From parameters under training to the SAE as it is stored, and back."""

import math

from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.stages.sae_train.jumprelu import Parameters
from ghosttrack.stages.sae_train.normalise import LayerStates


def to_sae(parameters: Parameters, layer: LayerStates | None, target_l0: float) -> JumpReLUSAE:
    """The inference form; without a layer, for inputs that are normalised already."""
    d_model = len(parameters.decoder_bias)
    return JumpReLUSAE(
        W_enc=parameters.encoder.T.contiguous(), b_enc=parameters.encoder_bias, W_dec=parameters.decoder,
        b_dec=parameters.decoder_bias, threshold=parameters.thresholds(),
        mean=layer.mean if layer else parameters.decoder_bias.new_zeros(d_model),
        scale=layer.scale if layer else 1.0,
        norm_limit=layer.norm_limit if layer else math.inf,
        layer=layer.layer if layer else None, target_l0=target_l0,
    ).folded()  # fmt: skip


def from_sae(sae: JumpReLUSAE) -> Parameters:
    """Parameters to go on from; what was learned of the thresholds stays in them, the offset starts at 0."""
    return Parameters(
        encoder=sae.W_enc.T.contiguous(), encoder_bias=sae.b_enc.clone(), decoder=sae.W_dec.clone(),
        decoder_bias=sae.b_dec.clone(), raw_threshold=sae.threshold.clone(), offset=sae.b_enc.new_zeros(()),
    )  # fmt: skip
