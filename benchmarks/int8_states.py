"""What storing hidden states in fewer bits costs the SAEs that are trained on them: `python benchmarks/int8_states.py`.

Needs a finished `make demo` (its model snapshot and corpus). States of some layers are extracted as float32 and written as
each storage type; an SAE is trained on each with the same seed, batches and steps, by the functions of the sae_train
stage, and its fraction of variance unexplained (FVU) is measured on held-out documents of the float32 states. Ends with
one line of JSON: FVU by type, and the ratio to float32, as means over the layers.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from ghosttrack.common.formats.corpus import Corpus, read_corpus
from ghosttrack.common.formats.states import DTYPES, StatesWriter, open_states, reserve
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.extract.forward import batches, write_states
from ghosttrack.stages.sae_train import evaluate
from ghosttrack.stages.sae_train.batches import Batches
from ghosttrack.stages.sae_train.initialise import SAMPLES_PER_LATENT, initial_parameters
from ghosttrack.stages.sae_train.normalise import LayerStates, fit_layer
from ghosttrack.stages.sae_train.stored import to_sae
from ghosttrack.stages.sae_train.training import Recipe, train

LENGTH, BATCH = 256, 8
LATENTS, TARGET, TRAIN_BATCH, RATE, SEED = 2304, 64.0, 512, 1e-3, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("data/cache/demo"))
    parser.add_argument("--layers", default="5,15,29", help="layers to train on")
    parser.add_argument("--quick", action="store_true", help="fewer tokens, one layer")
    options = parser.parse_args()
    layers = [int(layer) for layer in options.layers.split(",")][: 1 if options.quick else None]
    tokens, epochs = (8_192, 4) if options.quick else (40_960, 8)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = extract(options.cache, layers, tokens, Path(scratch))
        by_type: dict[str, list[float]] = {name: [] for name in DTYPES}
        for layer in layers:
            reference = open_layer(Path(scratch), corpus, layer, "float32")
            for name in DTYPES:
                fvu = held_out_fvu(open_layer(Path(scratch), corpus, layer, name), reference, epochs)
                by_type[name].append(fvu)
                print(f"layer {layer}, {name}: FVU {fvu:.5f}", file=sys.stderr)
    means = {name: statistics.mean(values) for name, values in by_type.items()}
    print(
        json.dumps(
            {
                "fvu": {name: round(value, 5) for name, value in means.items()},
                "ratio_to_float32": {
                    name: round(value / means["float32"], 4) for name, value in means.items()
                },
                "layers": layers,
                "tokens": tokens,
            }
        )
    )


def extract(cache: Path, layers: list[int], n_tokens: int, folder: Path) -> Corpus:
    """Write `<type>/<layer>.pt` for every type; the corpus, cut to the tokens that were read."""
    model = load_language_model(cache / "model")
    whole = read_corpus(cache / "corpus/corpus.pt", model.unembedding.shape[0])
    corpus = Corpus(**{name: values[:n_tokens] for name, values in vars(whole).items()})
    out: dict[str, dict[int, StatesWriter]] = {}
    for name, dtype in DTYPES.items():
        (folder / name).mkdir()
        for layer in layers:
            reserve(folder / name / f"{layer}.pt", len(corpus), model.d_model, dtype)
        out[name] = {layer: StatesWriter(folder / name / f"{layer}.pt") for layer in layers}
    for batch in batches(0, len(corpus), LENGTH, BATCH):
        write_states(model, corpus.token, corpus.position, batch, out["float32"])
    for layer in layers:
        rows = open_states(folder / "float32" / f"{layer}.pt")[:]
        for name in DTYPES:
            out[name][layer].write(0, rows)
    return corpus


def open_layer(folder: Path, corpus: Corpus, layer: int, name: str) -> LayerStates:
    return fit_layer(layer, open_states(folder / name / f"{layer}.pt"), corpus.position, corpus.held_out)


def held_out_fvu(layer: LayerStates, reference: LayerStates, epochs: int) -> float:
    """Of an SAE that is trained on `layer`, measured on the held-out states of `reference`."""
    torch.manual_seed(SEED)
    data = Batches([layer], TRAIN_BATCH, SEED)
    start = initial_parameters(data.sample(SAMPLES_PER_LATENT * LATENTS, SEED), LATENTS, TARGET, SEED)
    rows = evaluate.thin(layer.held_out, 512)
    recipe = Recipe(data.steps(epochs), RATE, TARGET)
    trained = train(
        start,
        data,
        recipe,
        lambda p: evaluate.fvu_at_target(p, [layer], [rows], TARGET).mean,
        lambda *_: None,
    )
    best = trained.best
    best.offset.copy_(evaluate.calibrated_offset(best, layer, evaluate.thin(layer.held_out), TARGET))
    return float(evaluate.measure(to_sae(best, layer, TARGET), reference, trained.fired)["fvu"])


if __name__ == "__main__":
    main()
