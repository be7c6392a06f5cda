"""How good all SAEs of a model are, once they are there: measured inside the model, and beside one another.

`sae_quality.json` is what later stages read; a page for each layer and one for identity are for people.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.errors import NumericError
from ghosttrack.common.formats.corpus import CORPUS, read_corpus
from ghosttrack.common.formats.file import write_json
from ghosttrack.common.formats.saes import IDENTITY_PAGE, QUALITY, SAE, SAE_METRICS, SAE_PAGE
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.held_out import HeldOutText, held_out_text
from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.steps import dealt, steps_done
from ghosttrack.stages.sae_train import identity, pages, splice
from ghosttrack.stages.sae_train.evaluate import Tally


def measure_quality(job: Job) -> dict[str, Any]:
    """Write the unit's files; a summary for the manifest."""
    model = load_language_model(job.input_dir("prepare/model"), **job.config.model.loading)
    saes = read_saes(job, model)
    records = {layer: read_record(job, layer) for layer in saes}
    spliced = measure_splice(job, model, saes)
    seed = int(generator(job.config.seed, "sae_train", "identity").integers(2**31))
    report = {
        "text": spliced.pop("text"),
        "layers": [merged(records[layer], found) for layer, found in spliced.pop("layers").items()],
        "all_layers": spliced.pop("all_layers"),
        "identity": identity.report({layer: sae.W_dec for layer, sae in saes.items()}, seed),
    }
    QUALITY.write(job.output(QUALITY), report)
    paths = [job.output(SAE_PAGE.of(layer)) for layer in saes] + [job.output(IDENTITY_PAGE)]

    def draw(number: int) -> None:
        of_layer = number < len(saes)
        page = pages.layer_page(report["layers"][number], report) if of_layer else pages.identity_page(report)
        page.savefig(paths[number], dpi=pages.DPI)

    for _ in dealt(draw, range(len(paths)), model.device):
        pass
    return summary(report)


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """What matters most, for the manifest."""
    layers = report["layers"]
    whole = report["all_layers"]
    matches = [pair["self_match"] for pair in report["identity"]["adjacent"]]
    return {
        "ce_recovered_mean_ablation": _mean([record["splice"]["ce_recovered"]["mean"] for record in layers]),
        "kl_recovered_mean_ablation": _mean([record["splice"]["kl_recovered"]["mean"] for record in layers]),
        "all_layers_ce_recovered_mean_ablation": whole["ce_recovered"]["mean"],
        "all_layers_fvu_at_the_end": whole["error_by_depth"][-1]["fvu"],
        "self_match_min": min(matches, default=None),
        "self_match_mean": _mean(matches),
    }


def merged(record: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's own metrics with what was measured in the model.

    record: its metrics file; found: `figures` (of the SAE on the spliced text) and `splice`. Where the file has no
    figures, as that of an imported SAE, those on the spliced text stand in; `measured_on` says which.
    """
    own = "fvu" in record
    figures = {} if own else found["figures"]
    where = "held_out_states" if own else "splice"
    return {**figures, **record, "measured_on": where, "splice": found["splice"]}


def read_saes(job: Job, model: LanguageModel) -> dict[int, JumpReLUSAE]:
    """Every layer's SAE, on the model's device."""
    return {
        layer: JumpReLUSAE.load(
            job.input(SAE.of(layer)),
            d_model=model.d_model, layer=layer,
        ).to(model.device)
        for layer in job.config.layers
    }  # fmt: skip


def read_record(job: Job, layer: int) -> dict[str, Any]:
    """A layer's metrics file. Raises CorruptInputError."""
    path = job.input(SAE_METRICS.of(layer))
    record = SAE_METRICS.read(path)
    if record.get("layer") != layer:
        raise SAE_METRICS.corrupt(path, f"it is of layer {record.get('layer')}")
    return record


def measure_splice(job: Job, model: LanguageModel, saes: Mapping[int, JumpReLUSAE]) -> dict[str, Any]:
    """Losses with SAEs in the model, and the SAEs' figures on the same text; a batch and layer is a step."""
    text = held_out(job, model)
    rows = splice.rows_at_a_time(
        text.token.shape[1], model.unembedding.shape[0], job.config.extract.batch_size
    )
    batches = text.batches(rows)
    n_predictions = int(text.predicts.sum())

    path = job.scratch("clean.pt")
    job.step("clean", lambda: torch.save(clean_figures(model, batches, saes), path))
    known = torch.load(path, weights_only=True)
    means = {layer: known["layers"][layer]["mean"].to(model.device) for layer in saes}

    names = ["all", *map(str, saes)]  # those first that take longest, so that processes end together
    done = sum(job.done(_step(number, name)) for number in range(len(batches)) for name in names)
    with job.progress(len(batches) * len(names), "passes", "splice", initial=done) as progress:
        for number, batch in enumerate(batches):
            steps = [_step(number, name) for name in names]
            if all(map(job.done, steps)):
                continue
            clean = splice.read_clean(model, batch, list(saes))

            def measure(place: int, steps: list[str] = steps, clean: splice.Clean = clean) -> None:
                _splice(job.scratch(f"{steps[place]}.json"), model, clean, saes, means, names[place])

            for place in steps_done(job, model.device, range(len(steps)), steps.__getitem__, measure):
                progress.note(f"layer {names[place]}" if names[place] != "all" else "all layers")
                progress.update()

    def kept(number: int, name: str) -> Any:
        return json.loads(job.scratch(f"{_step(number, name)}.json").read_bytes())

    parts = {name: [kept(number, name) for number in range(len(batches))] for name in names}
    losses = {
        name: splice.recovery(splice.add_up([part["losses"] for part in found]), known["ce"], n_predictions)
        for name, found in parts.items()
    }
    error_by_depth = [
        {
            "layer": layer,
            "fvu": sum(part["errors"][str(layer)] for part in parts["all"]) / found["spread"],
            "fvu_alone": found["figures"]["fvu"],
        }
        for layer, found in known["layers"].items()
    ]
    return {
        "text": {
            "tokens": int(text.real.sum()),
            "predictions": n_predictions,
            "segments": int((text.real & (text.position == 0)).sum()),
            "ce": known["ce"] / n_predictions,
        },
        "layers": {
            layer: {"figures": known["layers"][layer]["figures"], "splice": losses[str(layer)]} for layer in saes
        },
        "all_layers": {**losses["all"], "error_by_depth": error_by_depth},
    }  # fmt: skip


def held_out(job: Job, model: LanguageModel) -> HeldOutText:
    """What the model reads."""
    settings = job.config
    corpus = read_corpus(job.input(CORPUS), model.unembedding.shape[0])
    random = generator(settings.seed, "sae_train", job.unit)
    return held_out_text(corpus, settings.sae_training.splice_tokens, settings.extract.max_length, random)


@torch.inference_mode()
def clean_figures(
    model: LanguageModel, batches: Sequence[HeldOutText], saes: Mapping[int, JumpReLUSAE]
) -> dict[str, Any]:
    """The model by itself: `ce` (sum, nats) and of each layer the mean of its kept states, their spread
    Σ‖state - mean‖² in the model's units, and the SAE's figures on them.

    Raises NumericError where the model's loss is not finite.
    """
    tallies = {layer: Tally(sae) for layer, sae in saes.items()}
    ce = 0.0
    for batch in batches:
        clean = splice.read_clean(model, batch, list(saes))
        ce += clean.ce
        for layer, sae in saes.items():
            states = clean.states[layer]
            kept = splice.kept_mask(sae, clean.text, states)
            tallies[layer].add(states[clean.text.real], kept[clean.text.real])
    if not torch.tensor(ce).isfinite():
        raise NumericError(
            "the model's loss on held-out text is not finite; compute in a wider type with --set model.dtype=float32"
        )
    known = {
        layer: {
            "mean": (tally.masked.mean() / tally.sae.scale).float() + tally.sae.mean.cpu(),
            "spread": tally.masked.spread() / tally.sae.scale**2,
            "figures": tally.figures(),
        }
        for layer, tally in tallies.items()
    }
    return {"ce": ce, "layers": known}


def _step(number: int, name: str) -> str:
    return f"splice_{number}_{name}"


def _splice(
    path: Path, model: LanguageModel, clean: splice.Clean, saes: Mapping[int, JumpReLUSAE],
    means: Mapping[int, Tensor], name: str,
) -> None:  # fmt: skip
    """Measure one layer, or "all", on one batch and write the sums."""
    if name == "all":
        losses, errors = splice.all_layers(model, clean, saes, means)
        write_json(path, {"losses": losses, "errors": errors})
    else:
        layer = int(name)
        write_json(path, {"losses": splice.layer_alone(model, clean, saes[layer], means[layer], layer)})


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are defined."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
