"""Runs in the environment of the real sae-lens, without any code of ours: a command a line, as a JSON list.

load FOLDER STATES OUT                      what sae-lens makes of the states with the SAE in a folder: {"acts", "out"}
save FOLDER STATES OUT [b_dec] [bfloat16] [layer_norm]   the same for random weights that it then saves in the folder
train FOLDER                                save an unfolded checkpoint of a training in FOLDER/checkpoint, and the folded
                                            end of it in FOLDER/final
"""

import json
import sys

import torch
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig, JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata

D_MODEL, D_HIDDEN = 48, 192
HOOK = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post", "hook_head_index": None}


def randomise(sae: torch.nn.Module) -> None:
    """Weights of any norm, biases that are not 0, and thresholds that some of the latents pass."""
    torch.manual_seed(2)
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(sae.W_enc.shape) / D_MODEL**0.5)
        sae.W_dec.copy_(torch.randn(sae.W_dec.shape) * 0.7)
        sae.b_enc.copy_(torch.randn(sae.b_enc.shape) * 0.3)
        sae.b_dec.copy_(torch.randn(sae.b_dec.shape))
        sae.threshold.copy_(torch.rand(sae.threshold.shape) - 0.1)


@torch.no_grad()
def outputs(sae: SAE, states: str, path: str) -> None:
    x = torch.load(states)
    acts = sae.encode(x.to(sae.dtype))
    torch.save({"acts": acts.float(), "out": sae.decode(acts).float()}, path)


def save(folder: str, states: str, path: str, *options: str) -> None:
    scale = [option for option in options if option in ("layer_norm", "constant_norm_rescale")]
    config = JumpReLUSAEConfig(
        d_in=D_MODEL,
        d_sae=D_HIDDEN,
        apply_b_dec_to_input="b_dec" in options,
        normalize_activations=scale[0] if scale else "none",
        metadata=SAEMetadata(**HOOK),
    )
    sae = JumpReLUSAE(config)
    randomise(sae)
    if "bfloat16" in options:
        rounded = {name: value.bfloat16().float() for name, value in sae.state_dict().items()}
        sae.load_state_dict(rounded)  # so that both sides compute with the same numbers in float32
        outputs(sae, states, path)
        sae = sae.to(dtype=torch.bfloat16)
    else:
        outputs(sae, states, path)
    sae.save_model(folder)


def train(folder: str) -> None:
    config = JumpReLUTrainingSAEConfig(
        d_in=D_MODEL,
        d_sae=D_HIDDEN,
        normalize_activations="expected_average_only_in",
        metadata=SAEMetadata(**HOOK),
    )
    sae = JumpReLUTrainingSAE(config)
    sae.save_model(f"{folder}/checkpoint")
    sae.fold_activation_norm_scaling_factor(0.25)
    sae.save_inference_model(f"{folder}/final")


if __name__ == "__main__":
    for line in sys.stdin:
        command, folder, *rest = json.loads(line)
        if command == "load":
            outputs(SAE.load_from_disk(folder), *rest)
        elif command == "save":
            save(folder, *rest)
        else:
            train(folder)
        print("done", flush=True)
