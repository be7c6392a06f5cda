"""From the states at some positions to rows of the tables: nodes, their tracks on every rung of the ladder, and layers."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghosttrack.common.maths.arrays import Bools, Ints
from ghosttrack.common.models.sae import JumpReLUSAE, strongest
from ghosttrack.stages.track.associate.follow import Associator, follow
from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.association import Association, Scans
from ghosttrack.stages.track.effects import candidate_effects, compete, node_effects
from ghosttrack.stages.track.readout import ReadOut

Columns = dict[str, NDArray[np.generic]]


@torch.inference_mode()
def follow_states(
    states: Tensor,
    owner: Ints,
    candidates: Tensor,
    saes: Sequence[JumpReLUSAE],
    association: Association,
    read_out: ReadOut,
    *,
    k: int,
    associator: Associator,
    ladder: Sequence[Associator],
    seed: int,
) -> dict[str, Columns]:
    """Track the strongest latents of states, and let the candidates compete by them. Returns columns of `tracks` and `ladder`, a
    value a node, sorted by question, position, layer and falling activation, and of `layers`, a value a (question, position,
    layer), whose n_active counts latents beyond the k strongest too. states: [n, n_layers, d_model],
    any float type; owner: [n, 2], question and position of each; candidates: int64 [n, m], tokens that compete at
    each, the emitted one first. seed: for random association."""
    n, n_layers, _ = states.shape
    scale = read_out.scale(states[:, -1].float())
    rows = read_out.weight[candidates]
    difference = rows[:, 0] - rows[:, 1]
    found = []
    for place, sae in enumerate(saes):
        here = states[:, place].float()
        acts = sae.encode(here)
        latent, activation = strongest(acts, k)
        latent = latent.long()
        decoder = sae.W_dec / sae.scale
        effect = node_effects(latent, activation, decoder, difference, scale)
        of_candidates = candidate_effects(latent, activation, decoder, rows, scale)
        # Less what no latent says, not less the mean, which SAEs from elsewhere do not keep.
        spread = (here - sae.bias(here)).square().sum(1).clamp(min=1e-12)
        error = (here - sae.decode(acts, here)).square().sum(1) / spread
        found.append((latent, activation, effect, of_candidates, error, (acts > 0).sum(1)))
    latents, activations, effects, competing, errors, counts = (
        torch.stack(each, 1) for each in zip(*found, strict=True)
    )
    scans = Scans(latents.numpy(), activations.numpy())
    decoders = [sae.W_dec for sae in saes]
    rungs = {associator: follow(scans, association, associator, decoders, seed=seed)}
    for name in ladder:
        if name not in rungs:  # random is dealt from the published tracks
            rungs[name] = follow(scans, association, name, decoders, seed=seed, given=rungs[associator])
    tracks, active = rungs[associator], scans.active
    problem, place_of, _ = np.nonzero(active)
    layers = np.array(association.layers, dtype=np.int16)
    nodes: Columns = {
        "question": owner[problem, 0].astype(np.int32),
        "position": owner[problem, 1].astype(np.int16),
        "layer": layers[place_of],
        "latent": scans.latents[active].astype(np.int32),
        "activation": scans.activations[active],
        "track": tracks.track[active].astype(np.int16),
        "link": tracks.link[active],
        "posterior": tracks.posterior[active],
        "existence": tracks.existence[active],
        "effect": effects.numpy()[active],
    }
    of_ladder: Columns = {}
    for name in ladder:
        of_ladder[f"{name}_track"] = rungs[name].track[active].astype(np.int16)
        of_ladder[f"{name}_link"] = rungs[name].link[active].astype(np.float16)
    births, deaths = births_and_deaths(tracks, active)
    discarded = rungs["hypotheses"].discarded if "hypotheses" in rungs else tracks.discarded
    per_layer: Columns = {
        "question": owner[:, 0].repeat(n_layers).astype(np.int32),
        "position": owner[:, 1].repeat(n_layers).astype(np.int16),
        "layer": np.tile(layers, n),
        "n_active": counts.numpy().ravel().astype(np.int32),
        "births": births.ravel(),
        "deaths": deaths.ravel(),
        "association_entropy": tracks.entropy.ravel().astype(np.float32),
        "discarded_mass": discarded.ravel().astype(np.float32),
        "error": errors.numpy().ravel(),
        **{name: values.numpy().ravel() for name, values in compete(competing).items()},
    }
    return {"tracks": nodes, "ladder": of_ladder, "layers": per_layer}


def births_and_deaths(tracks: Tracks, active: Bools) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tracks that begin at a layer, and that are seen at it last (the last layer left out): [n_problems, n_layers]."""
    n, n_layers, k = active.shape
    births = (active & (tracks.previous < 0)).sum(2, dtype=np.int32)
    ends = active.reshape(n, -1).copy()
    problem, layer, rank = np.nonzero(tracks.previous >= 0)
    ends[problem, tracks.previous[problem, layer, rank]] = False
    deaths = ends.reshape(n, n_layers, k).sum(2, dtype=np.int32)
    deaths[:, -1] = 0
    return births, deaths
