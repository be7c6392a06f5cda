"""Unit `validation`: put the tracker to the test and write down in figures and in words whether it passed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ghosttrack.common.engine.stage import Job
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.association import ASSOCIATION
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.formats.file import only
from ghosttrack.common.formats.neutral import markdown_table
from ghosttrack.common.formats.tracks import INDEPENDENT, TRACKS
from ghosttrack.common.formats.validation import VALIDATION, VALIDATION_PICTURE, VALIDATION_WORDS
from ghosttrack.common.maths.arrays import Floats
from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.held_out import HeldOutText
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.steps import dealt
from ghosttrack.stages.track import explanations, link_calibration, stability, validation
from ghosttrack.stages.track.associate.follow import follow
from ghosttrack.stages.track.associate.record import Tracks
from ghosttrack.stages.track.association import Association, Scans, fit
from ghosttrack.stages.track.causes import agreement_of
from ghosttrack.stages.track.corpus_scans import CorpusScans
from ghosttrack.stages.track.link_calibration import Judged
from ghosttrack.stages.track.loaded import language_model_of, load_saes
from ghosttrack.stages.track.run_association import scan_held_out
from ghosttrack.stages.track.run_causes import summary
from ghosttrack.stages.track.scenes import SCENES
from ghosttrack.stages.track.validation_plot import ASSOCIATORS, draw

SCENE_PROBLEMS = (300, 40)
"""To fit to, and to score."""
MOST_SCANS = 4096
TESTED_TOKENS = 64
"""At each of which a link a layer is tested."""
TOKENS_AT_A_TIME = 16
LATEST_POSITION = 16
"""Of a tested token, so that it is cheap to read again: what stands before it is read with it for every link."""

CALIBRATED = ("nearest", "marginals", "hypotheses")
DROPS = ("slope", "slope_low", "slope_high", "rank", "rank_low", "rank_high")
OUTCOMES = {"passed": True, "failed": False, "not_told": None}


def run(job: Job) -> dict[str, Any]:
    settings, seed = job.config, job.config.seed
    saes = load_saes(job)
    association = Association.load(job.input(ASSOCIATION))
    model = language_model_of(job)
    decoders = [sae.W_dec for sae in saes]
    found, text = scan_held_out(job, model, saes, min(settings.tracking.fit_tokens, MOST_SCANS))
    even, odd = _halves(found)
    by_cosine = fit(even, decoders, settings.layers, seed, each=partial(dealt, device=model.device))
    linked = follow(odd, by_cosine, "nearest", decoders, seed=seed)
    tracks = follow(found.scans, association, "nearest", decoders, seed=seed)
    chosen = _tokens_to_test(found, text, seed)
    links = validation.sample_links(found.scans, tracks, chosen, seed)
    at = found.row[chosen], found.column[chosen]
    parts: list[Callable[[], Any]] = [
        lambda: validation.ablate(model, text, *at, saes, settings.layers, links, TOKENS_AT_A_TIME),
        lambda: _causal_links(even, odd, by_cosine, linked, saes, settings.layers, seed),
        lambda: _likelihood_and_life(even, odd, by_cosine, linked, saes, settings.layers, seed),
        *(partial(_scene, name, seed) for name in SCENES),
    ]
    with job.progress(len(parts), "parts", "validation") as progress:
        results = []
        for result in dealt(lambda number: parts[number](), range(len(parts)), model.device):
            results.append(result)
            progress.update(1)
    drops, causal_links, (likelihood, life), *planted = results
    scenes = {name: scores for name, (scores, _) in zip(SCENES, planted, strict=True)}
    calibration = {
        associator: link_calibration.reliability(Judged.joined([own[associator] for _, own in planted]), seed)
        for associator in CALIBRATED
    }
    generations = GENERATIONS.read(job.input(GENERATIONS))
    interventions = CAUSES.read(job.input(CAUSES))
    told, changed = _explanations(job, interventions, [line["label"] for line in generations])
    verdicts = [
        validation.judge_scenes(scenes),
        validation.judge_likelihood(likelihood["linked"], likelihood["random"]),
        validation.judge_life(life["real"], life["permuted"], len(settings.layers)),
        validation.judge_causes(drops, links.token),
        link_calibration.judge(calibration[settings.tracking.associator], settings.tracking.associator),
        causal_links,
        *told,
        *_stability(job, len(generations)),
    ]
    causes = _causes(links, drops, settings.layers)
    report = {
        **{name: sum(verdict.passed is kind for verdict in verdicts) for name, kind in OUTCOMES.items()},
        "verdicts": [verdict._asdict() for verdict in verdicts],
        "scenes": _rounded_means(scenes),
        "likelihood": {
            "tokens": len(likelihood["linked"]),
            **{name: _mean(values) for name, values in likelihood.items()},
        },
        "link_posteriors": {
            "scenes": calibration,
            "interventions": link_calibration.by_posterior(links.posterior, drops.linked, drops.control),
        },
        "life": life,
        "drops": _drops(job, interventions),
        "changed": changed,
        "causes": causes,
    }
    VALIDATION.write(job.output(VALIDATION), report)
    job.output(VALIDATION_WORDS).write_text(words(report), "utf-8")
    draw(job.output(VALIDATION_PICTURE), report, likelihood)
    named = {
        name: [verdict.question for verdict in verdicts if verdict.passed is OUTCOMES[name]]
        for name in ("failed", "not_told")
    }
    del causes["by_layer"]
    return {"passed": report["passed"], **named, "life": life, "causes": causes}


def _scene(name: str, seed: int) -> tuple[dict[str, dict[str, list[float]]], dict[str, Judged]]:
    """A planted scene's scores by associator and measure, and links by associator."""
    scene, ways = validation.scene_tracks(name, *SCENE_PROBLEMS, seed)
    return validation.scene_scores(scene, ways), {
        associator: link_calibration.judged(scene, ways[associator]) for associator in CALIBRATED
    }


def _rounded_means(scenes: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> dict[str, Any]:
    """By scene, associator and measure."""
    return {
        scene: {
            name: {measure: round(float(np.mean(values)), 4) for measure, values in measures.items()}
            for name, measures in associators.items()
        }
        for scene, associators in scenes.items()
    }


def _causes(links: validation.LinkTrials, drops: validation.Drops, layers: list[int]) -> dict[str, Any]:
    """What the linked and the controls lose without the source, over all tested links and layer by layer."""

    def lost(rows: Any) -> dict[str, Any]:
        linked, control = drops.linked[rows], drops.control[rows]
        return {"links": len(linked), "drop_linked": _mean(linked), "drop_control": _mean(control)}

    return {
        **lost(slice(None)),
        "precision": _mean(drops.linked > drops.control),
        "by_layer": [
            {"layer": layers[place], **lost(links.layer == place)}
            for place in np.unique(links.layer).tolist()
        ],
    }


def _causal_links(
    fitted_to: Scans, tried_on: Scans, by_cosine: Association, cosine: Tracks,
    saes: list[JumpReLUSAE], layers: list[int], seed: int,
) -> validation.Verdict:  # fmt: skip
    """by_cosine, cosine: the association that is compared with, and its nearest neighbours."""
    decoders = [sae.W_dec for sae in saes]
    gains = [(sae.W_dec / sae.scale, (sae.scale * sae.W_enc).T.contiguous()) for sae in saes]
    by_share = fit(fitted_to, decoders, layers, seed, gains=gains)
    causal = follow(tried_on, by_share, "nearest", decoders, seed=seed)
    dealt = follow(tried_on, by_share, "random", decoders, seed=seed, given=causal)
    return explanations.judge_causal_links(
        explanations.predictive(tried_on, causal, by_share),
        explanations.predictive(tried_on, dealt, by_share),
        explanations.predictive(tried_on, cosine, by_cosine),
        seed,
    )


def _explanations(
    job: Job, causes: dict[str, Any], labels: list[int | None]
) -> tuple[list[validation.Verdict], list[dict[str, Any]]]:
    """Verdicts on the account and on interventions, as their units published them; wrong answers that change, by size of set."""
    account = ACCOUNT.read(job.input(ACCOUNT), ["position", "layer", "leader", "rest", "mlp"])
    layer = max(job.config.layers)
    last = (account["layer"] == layer) & (account["position"] >= 0)
    leads = account["leader"][last] == 0 if layer == job.config.model.n_layers - 1 else None
    wrong = np.array([labels[number] == 1 for number in causes["question"].tolist()], dtype=bool)
    figures = summary(causes, labels, job.config.seed)
    return [
        explanations.judge_account(account["rest"], leads, not np.isnan(account["mlp"]).any()),
        explanations.judge_predictions(figures["predicted"]),
        explanations.judge_answers(causes, wrong),
    ], figures["changed"]


def _stability(job: Job, questions: int) -> list[validation.Verdict]:
    """A verdict where there are SAEs that were trained apart."""
    if "track/independent" not in job.entries:
        return []
    own, twins = (
        table.read(job.input(table), stability.COLUMNS, where={"position": range(1)})
        for table in (TRACKS, INDEPENDENT)
    )
    return [stability.judge_stability(own, twins, questions, job.config.layers)]


def _halves(found: CorpusScans) -> tuple[Scans, Scans]:
    """Scans of the even and of the odd rows of the text, which share no segment; of every other token if there is one row."""
    odd = found.row % 2 == 1
    if not odd.any():
        odd = np.arange(len(odd)) % 2 == 1
    return found.scans.of(~odd), found.scans.of(odd)


def _tokens_to_test(found: CorpusScans, text: HeldOutText, seed: int) -> np.ndarray:
    """Rows of the scans, ascending."""
    position = text.position.numpy()[found.row, found.column]
    early = np.flatnonzero(position <= LATEST_POSITION)
    return np.sort(generator(seed, "track", "tested tokens").permutation(early)[:TESTED_TOKENS])


def _likelihood_and_life(
    fitted_to: Scans, tried_on: Scans, association: Association, linked: Tracks,
    saes: list[JumpReLUSAE], layers: list[int], seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:  # fmt: skip
    """Log densities by kind of link, a value a token that has links; mean life by kind of decoder. linked: tracks of the
    association's nearest neighbours."""
    decoders = [sae.W_dec for sae in saes]
    dealt = follow(tried_on, association, "random", decoders, seed=seed, given=linked)
    values, there = validation.link_likelihoods(tried_on, linked, association)
    others, _ = validation.link_likelihoods(tried_on, dealt, association)
    shuffled = validation.permuted(decoders, seed)
    nothing = follow(tried_on, fit(fitted_to, shuffled, layers, seed), "nearest", shuffled, seed=seed)
    life = {
        "real": round(validation.weighted_life(tried_on, linked), 3),
        "permuted": round(validation.weighted_life(tried_on, nothing), 3),
        "random": round(validation.weighted_life(tried_on, dealt), 3),
    }
    return {"linked": values[there], "random": others[there]}, life


def words(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    told = {kind: name.replace("_", " ") for name, kind in OUTCOMES.items()}
    passed, total = report["passed"], len(report["verdicts"])
    some = f"{passed} of {total} passed, {report['failed']} failed, {report['not_told']} could not be told."
    links, causes = report["link_posteriors"], report["causes"]
    drops = "drop of the linked | drop with the control"
    blocks = [
        "# Validation of the tracker",
        "All passed." if passed == total else some,
        *(f"## {each['question']}\n\n**{told[each['passed']]}.** {each['words']}" for each in report["verdicts"]),
        "## Planted scenes",
        _table("scene | association | GOSPA ↓ | MOTA ↑ | IDF1 ↑", (
            f"{scene} | {ASSOCIATORS[name][0]} | {means['gospa']:.3f} | {means['mota']:.3f} | {means['idf1']:.3f}"
            for scene, associators in report["scenes"].items() for name, means in associators.items()
        )),
        "## Posteriors of links in planted scenes",
        _table("association | posterior | links | mean posterior | right", (
            f"{ASSOCIATORS[name][0]} | {each['low']:.0%}–{each['high']:.0%} | {each['links']:,} | {each['posterior']:.3f} | {each['right']:.3f}"
            for name, table in links["scenes"].items() for each in table["bins"]
        )),
        "## Posteriors of links, and what their targets lose without their sources",
        _table(f"links | mean posterior | {drops} | linked falls more", (
            f"{each['links']} | {each['posterior']:.3f} | {each['drop_linked']:.3f} | {each['drop_control']:.3f} | {each['stronger']:.0%}"
            for each in links["interventions"]
        )),
        "## Measured drops on predicted ones",
        _table("tracks taken out | n | slope | rank correlation", (
            f"{each['what']} | {each['n']} | {_with_interval(each, 'slope')} | {_with_interval(each, 'rank')}"
            for each in report["drops"]
        )),
        "## Wrong answers that begin otherwise",
        "Without as many tracks as stand in the first column, those of largest predicted effect, and without as much of other "
        "latents at the same places.",
        _table("tracks taken out | wrong answers | without them | with the control | without them, and a right answer begins so", (
            f"{each['size']} | {each['wrong_answers']} | {_share(each['changed'])} | {_share(each['control'])} | {_share(each['became_right'])}"
            for each in report["changed"]
        )),
        "## Causes by layer",
        _table(f"layer | links | {drops}", (
            f"{each['layer']} | {each['links']} | {each['drop_linked']:.3f} | {each['drop_control']:.3f}"
            for each in causes["by_layer"]
        )),
        f"![The same in pictures]({VALIDATION_PICTURE.name})",
    ]  # fmt: skip
    return "\n\n".join(blocks) + "\n"


def _table(header: str, rows: Iterable[str]) -> str:
    """A Markdown table; cells are parted by bars."""
    return markdown_table([row.split(" | ") for row in (header, *rows)])


def _share(values: Sequence[float] | None) -> str:
    return "–" if values is None else f"{values[0]:.0%} [{values[1]:.0%}, {values[2]:.0%}]"


def _with_interval(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.2f} [{row[f'{key}_low']:.2f}, {row[f'{key}_high']:.2f}]"


def _drops(job: Job, causes: dict[str, Any]) -> list[dict[str, Any]]:
    """Slope and rank correlation of measured on predicted drops, with intervals over questions, by kind and by the depth at which
    a track begins."""
    single = causes["kind"].astype(str) == "track"
    third = np.floor(_births(job, causes) / max(len(job.config.layers), 1) * 3).clip(0, 2)
    sizes = np.unique(causes["size"][~single]).tolist()
    groups = {"one track": single}
    groups |= {f"sets of {size}": ~single & (causes["size"] == size) for size in sizes}
    for i, name in enumerate(("first", "middle", "last")):
        groups[f"one track born in the {name} third of the layers"] = single & (third == i)
    found = []
    for what, rows in groups.items():
        each = agreement_of(causes, rows, job.config.seed)
        if each is not None:
            values = (each.slope, *each.slope_interval, each.rank_correlation, *each.rank_interval)
            told = (round(float(value), 3) for value in values)
            found.append({"what": what, "n": each.n, **dict(zip(DROPS, told, strict=True))})
    return found


def _births(job: Job, causes: dict[str, Any]) -> Floats:
    """Place among the layers at which the track of each row begins; NaN for sets."""
    path, layers = job.input(TRACKS), job.config.layers
    births = np.full(len(causes["question"]), np.nan)
    for question in np.unique(causes["question"]).tolist():
        rows = TRACKS.read(path, ["position", "layer", "track"], where=only(range(question, question + 1)))
        for at in np.flatnonzero((causes["question"] == question) & (causes["kind"] == "track")).tolist():
            own = (rows["position"] == causes["position"][at]) & (rows["track"] == causes["track"][at])
            births[at] = layers.index(int(rows["layer"][own].min()))
    return births


def _mean(values: np.ndarray) -> float | None:
    return round(float(np.mean(values)), 4) if len(values) else None
