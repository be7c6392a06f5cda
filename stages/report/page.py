"""The Markdown report: the findings on two pages, then what they rest on in appendices."""

from collections.abc import Mapping, Sequence
from typing import Any

from ghosttrack.common.engine.progress import format_probability
from ghosttrack.common.formats import report as drawn
from ghosttrack.common.formats.neutral import markdown_table, markdown_text
from ghosttrack.stages.report import tables

Json = Mapping[str, Any]


def page(
    report: Json,
    examples: Sequence[Json],
    sources: Sequence[Sequence[str]],
    tokens: Json | None = None,
    validation: Json | None = None,
) -> str:
    """The report in Markdown. report: final_report.json; examples: records of hallucination_scores.json; sources:
    header and a row a file read; tokens: token_metrics.json; validation: validation.json.
    """
    if report.get("undefined"):
        return "\n\n".join(_undefined(report, examples, sources, tokens or {}, validation or {})) + "\n"
    sections = [
        f"# {report['name']}: do hypothesis tracks show wrong answers?",
        *filter(None, [report["headline"]["contexts"]]),
        f"**{plain_sentence(report)}**",
        markdown_table(tables.finding(report)),
        *_token_headline(tokens or {}),
        data_sentence(report["data"]),
        f"Positive class: a wrong answer. Intervals: {report['confidence']:.0%}, {report['resamples']:,} bootstrap resamples "
        f"of {report['splits'][0]['n_groups']:,} groups of questions. Differences are paired: both methods on the same "
        "resamples. The best baseline is the best on a single signal, chosen after the fact, in its favour.",
        "## Methods",
        markdown_table(tables.main_methods(report, (*tables.RANKING[:2], "f1", "ece"))),
        f"![AUROC of every method]({drawn.METRICS_PICTURE.name})",
        "## Expected quality",
        markdown_table(tables.expectations(report)),
        "## Harder splits",
        f"The detector ({tables.titles(report)[report['detector']]}) on each:",
        markdown_table(tables.splits(report)),
        *_transfers(report),
        *_long_answers(tokens or {}),
        "## Controls",
        permutation_sentence(report["permutation"]),
        openings_sentence(report.get("frozen_test_openings")),
        *apart_sentence(report["sae"]),
        *(["Not measured:\n\n" + "\n".join(f"- {sentence}" for sentence in report["absent"])] if report["absent"] else []),
        "## Answers that the detector is surest about",
        markdown_table(example_rows(examples)),
        f"Each answer's tracks and account: `ghosttrack dashboard {report['name']}`.{_checks(validation or {})}",
        *appendices(report, sources, validation or {}),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def plain_sentence(report: Json) -> str:
    """The finding without a term of the field but its first: of pairs, since that is what AUROC counts."""
    grouped = report["splits"][0]
    figures = {method["name"]: method["figures"]["auroc"]["value"] for method in grouped["methods"]}
    said = f"{report['data']['prevalence']:.0%} of the questions are answered wrongly."
    if (ours := figures.get(report["detector"])) is not None:
        said += f" Of a wrong and a right answer, the detector finds the wrong one the more suspicious in {ours:.1%} of pairs"
        if theirs := figures.get(best := grouped["best_baseline"].get("auroc")):
            said += f"; the best single method without tracks ({tables.titles(report)[best]}) in {theirs:.1%}"
        said += "."
    return f"{said} {report['headline']['tracking'].split('. ')[0].rstrip('.')}."


def _undefined(
    report: Json, examples: Sequence[Json], sources: Sequence[Sequence[str]], tokens: Json, validation: Json
) -> list[str]:
    """What there is to show where wrong answers cannot be told from right ones."""
    return [
        f"# {report['name']}: nothing to detect",
        f"**{report['headline']['detector']}**",
        f"{data_sentence(report['data'])} Every figure of detection is undefined: none is shown.",
        "Answers, sparse autoencoders, tracks and accounts do not depend on it and are all there: "
        f"`ghosttrack dashboard {report['name']}` shows them.",
        "## Answers",
        markdown_table([row[:-1] for row in example_rows(examples)]),
        *_long_answers(tokens),
        *_matchers(report),
        "## Relations",
        markdown_table([[markdown_text(row[0]), *row[1:]] for row in tables.relations(report)]),
        "## Data",
        markdown_table([["", ""], *tables.data(report)]),
        "## Sparse autoencoders",
        markdown_table(tables.expectations(report)),
        sae_sentence(report["sae_all_layers"]),
        markdown_table(tables.sae(report)),
        *apart_sentence(report["sae"]),
        *_believed("## Can tracks be believed?", validation),
        "## Provenance",
        *_sources(report, "", sources),
    ]


def _token_headline(tokens: Json) -> list[str]:
    """What the detector has over the token's own log-probability, where there is anything."""
    if not tokens.get("methods"):
        return []
    methods = (tokens["methods"][name] for name in ("logprob", "detector"))
    own, detector = (tables.triple(method["token_auroc"]) for method in methods)
    lead = tables.triple(tokens["detector_less"]["logprob"]["token_auroc"], signed=True)
    return [
        f"**Token by token, within long answers, the detector has an AUROC of {detector}, the token's log-probability {own}, "
        f"paired difference {lead}.**"
    ]


def _long_answers(tokens: Json) -> list[str]:
    """A risk for every token, where spans of answers are labelled."""
    if not tokens.get("tokens"):
        return []
    if not tokens["methods"]:
        return ["## Long answers, token by token", f"No figures: {tokens['why_not']}."]
    return [
        "## Long answers, token by token",
        f"{tokens['tokens']:,} labelled tokens of {tokens['answers']:,} answers, {tokens['wrong_tokens']:,} of them in wrong spans; "
        f"{tokens['wrong_answers']:,} answers are wrong. Each risk is from a fit without the token's document; an answer has that of its "
        "riskiest token. The last column is what the detector has over each, paired.",
        markdown_table(tables.tokens(tokens)),
    ]


def _transfers(report: Json) -> list[str]:
    """From × to, where detectors of other configurations scored these questions."""
    rows = tables.transfers(report)
    if len(rows) == 2:
        return []
    return [
        "## From one data set to another",
        f"AUROC on the questions of {report['name']}; a detector of another configuration is taken as it was stored, and "
        "nothing is fitted again. Its own is out of fold:",
        markdown_table(rows),
    ]


def appendices(report: Json, sources: Sequence[Sequence[str]], validation: Json) -> list[str]:
    grouped, called = report["splits"][0], tables.titles(report)
    return [
        "# Appendices",
        "## A. Does tracking help?",
        report["headline"]["tracking"],
        *_ladder(report, grouped),
        "The same signals with tracks and without:",
        *_comparisons(report, grouped, "increment"),
        "Methods that see tracks against the best single one that does not:",
        *_comparisons(report, grouped, "detector"),
        "## B. All methods",
        report["headline"]["detector"],
        f"{grouped['title']}: {_lower(grouped['description'])} {_repeats(grouped)}Questions are ranked by the calibrated "
        "probability, which means the same in every fold.",
        markdown_table(tables.methods(report, grouped, tables.RANKING)),
        "At the threshold that each training side chose on its inner folds (best F1), and the calibration:",
        markdown_table(tables.methods(report, grouped, tables.DECISIONS)),
        f"Calling every answer wrong would have F1 {tables.number(grouped['f1_all_called_wrong'])}. With abstention, the most "
        "suspicious first:",
        markdown_table(tables.methods(report, grouped, tables.SELECTION)),
        "\n".join(
            f"- {called[m['name']]} (`{m['name']}`): {m['description']}"
            for m in report["methods"] if m["kind"] in ("detector", "baseline")
        ),
        f"![ROC curves]({drawn.ROC_PICTURE.name})",
        f"![Confusion matrix]({drawn.CONFUSION_PICTURE.name})",
        f"![Reliability]({drawn.RELIABILITY_PICTURE.name})",
        f"![Risk and coverage]({drawn.RISK_PICTURE.name})",
        "## C. Harder splits in full",
        "\n".join(f"- **{split['title']}**: {_lower(split['description'])}" for split in report["splits"]),
        *[part for split in report["splits"][1:] for part in _split(report, split)],
        "## D. Early warning",
        *_early_warning(report),
        "## E. Strict labels",
        strict_sentence(report),
        *([markdown_table(tables.methods(report, report["strict"], (*tables.RANKING[:2], "f1")))] if report["strict"] else []),
        *_matchers(report),
        "## F. Kinds of error",
        *_error_types(report),
        "## G. Relations",
        markdown_table([[markdown_text(row[0]), *row[1:]] for row in tables.relations(report)]),
        "## H. Data",
        markdown_table([["", ""], *tables.data(report)]),
        "## I. Sparse autoencoders",
        sae_sentence(report["sae_all_layers"]),
        markdown_table(tables.sae(report)),
        *_believed("## J. Can tracks be believed?", validation),
        "## K. Provenance",
        *_sources(
            report,
            "Everything that was fitted or chosen (layer, features, regularisation, calibration, threshold) was so on the training "
            f"side of the fold that it scores. {openings_sentence(report.get('frozen_test_openings'))} ",
            sources,
        ),
    ]  # fmt: skip


def _checks(validation: Json) -> str:
    if not (told := len(validation.get("verdicts", ()))):
        return ""
    return f" Of {told} checks whether they can be believed, {validation['passed']} passed (appendix J)."


def _believed(heading: str, validation: Json) -> list[str]:
    """What the validation of the tracker found, and what answers do without tracks."""
    if not validation.get("verdicts"):
        return []
    told = {True: "✓ yes", False: "✗ no", None: "could not be told"}
    found = [[each["question"], told[each["passed"]], each["words"]] for each in validation["verdicts"]]
    parts = [heading, markdown_table([["question", "", "what was found"], *found])]
    if changed := validation["changed"]:
        sets = {each["what"]: each for each in validation["drops"]}
        header = ["tracks taken out", "wrong answers", "changed", "control", "a right answer begins so",
                  "measured drop over predicted, of all answers"]  # fmt: skip
        rows = []
        for each in changed:
            shares = (_percent(each[kind]) for kind in ("changed", "control", "became_right"))
            rows.append([str(each["size"]), str(each["wrong_answers"]), *shares, _slope(sets, each["size"])])
        parts += [
            "Wrong answers whose first token changes without their tracks of largest predicted effect, and without as much of other "
            "latents. Effects do not add up: the more tracks go, the less of what each alone would lower is lowered, since "
            "later tracks carry on what earlier ones gave, which their sum counts twice, and later blocks are known to make up for what is "
            "missing (self-repair).",
            markdown_table([header, *rows]),
        ]  # fmt: skip
    return parts


def _percent(share: Sequence[float] | None) -> str:
    return "–" if share is None else f"{share[0]:.0%} [{share[1]:.0%}, {share[2]:.0%}]"


def _slope(sets: Mapping[str, Json], size: int) -> str:
    found = sets.get(f"sets of {size}")
    return f"{found['slope']:.2f} [{found['slope_low']:.2f}, {found['slope_high']:.2f}]" if found else "–"


def _sources(report: Json, protocol: str, sources: Sequence[Sequence[str]]) -> list[str]:
    """How it came about. protocol: sentences on what was fitted."""
    return [
        f"Model {markdown_text(report['model'])}, {len(report['layers'])} layers, seed {report['seed']}. Every answer is the model's own "
        f"greedy one, where its row gives none. {protocol}To repeat it: `ghosttrack run {report['name']}`, with the same `--set` where any was given. The files that this page was made from; their "
        "inputs, parameters, code and machine are in the `manifest.json` beside them:",
        markdown_table(sources),
    ]


def data_sentence(data: Json) -> str:
    excluded = ", ".join(f"{count:,} {reason}" for reason, count in data["excluded"].items()) or "none"
    share = "" if data["prevalence"] is None else f" ({1 - data['prevalence']:.0%})"
    more = f"; {n:,} more are worked examples, and not asked" if (n := data.get("n_examples")) else ""
    return (
        f"{data['n_labelled']:,} of {data['n_questions']:,} questions have a label (left out: {excluded}); "
        f"{data['n_right']:,} of them are answered correctly{share}{more}."
    )


def openings_sentence(count: int | None) -> str:
    """How often the frozen test was scored."""
    if count is None:
        return "How often the frozen test was opened was not counted."
    if count == 1:
        return "The frozen test was opened once."
    return (
        f"The frozen test was opened {count} times, by runs that differ in inputs, settings or code: what it says was no "
        "longer unseen when the last of them was made."
    )


def permutation_sentence(permutation: Json | None) -> str:
    if permutation is None:
        return "Labels were not permuted."
    keys = ("observed", "mean", "low", "high")
    observed, mean, low, high = (tables.number(permutation[key]) for key in keys)
    is_beyond = permutation["observed"] > permutation["high"]
    return (
        f"With labels permuted within relations, {permutation['n']:,} times, a ridge regression on the same features and folds has a mean AUROC "
        f"inside a relation and fold of {mean} ({low} to {high}); with the true labels it has {observed}, "
        f"{'beyond every one of them' if is_beyond else 'not beyond all of them'} (p = {permutation['p_value']:.3g})."
    )


def strict_sentence(report: Json) -> str:
    strict = report["strict"]
    if strict is None:
        return "There are no strict labels."
    kappa = "" if strict["kappa"] is None else f" (kappa {strict['kappa']:.2f})"
    return (
        f"By strict labels (an answer is right only where it is a right one and nothing else, but for form) "
        f"{strict['disagree']:,} of {strict['n']:,} answers are judged otherwise{kappa}; "
        "the same scores against them, nothing fitted again:"
    )


def _matchers(report: Json) -> list[str]:
    """How the matchers differ, where there are any."""
    matchers = report.get("matchers", [])
    if not matchers:
        return []
    return [
        f"Labels are by `data.matching: {report['matching']}`. What every matcher would say of the same answers, and of how "
        "many two of them say different things:",
        markdown_table(tables.matchers(matchers)),
    ]


SHARED = 0.5
"""Share of latents that keep their number from which SAEs count as sharing them."""


def sae_sentence(stack: Json) -> str:
    """How the table below is to be read, and all layers at once."""
    return (
        "Measured on held-out documents. Recovered is the share of the loss that the model does not lose when a SAE's "
        "reconstruction takes the place of a block's output, where 0% is what the mean state in its place would do; with "
        f"all layers' SAEs in place at once it is {tables.share(stack['ce_recovered'])} of the cross-entropy and "
        f"{tables.share(stack['kl_recovered'])} of KL, and {_end(stack['fvu_at_the_end'])}. A latent is the same one in the next layer where its "
        "nearest decoder direction there has its number. The pages `sae_layer_<i>.png` and `sae_identity.png` beside the "
        "SAEs show it all."
    )


def apart_sentence(layers: Sequence[Json]) -> list[str]:
    """What it means for tracks where most latents are not the same ones in the next layer, as of SAEs trained apart."""
    shares = [layer["next_self_match"] for layer in layers if layer["next_self_match"] is not None]
    if not shares or sum(shares) / len(shares) >= SHARED:
        return []
    return [
        f"**These SAEs do not share their latents**: on average {tables.share(sum(shares) / len(shares))} of a layer's latents "
        "have their nearest decoder direction in the next layer under the same number, as it is where each layer's SAE was trained "
        "apart (`sae.pretrained` of others, or `sae.shared_base: false`). A track then joins latents that point the same way, if "
        "any do, and is no life of one latent; births, deaths and lengths of tracks say more about the SAEs than about the model."
    ]


def _end(fvu: float | None) -> str:
    """What is left of the last layer's state with every SAE in place."""
    if fvu is not None and fvu > 1:
        return "the last layer's state is further from the model's own than its mean is"
    return f"the last layer's state has lost {tables.share(fvu)} of its variance"


def surest(records: Sequence[Json], each: int = 4) -> Sequence[Json]:
    """The labelled answers with the highest scores and those with the lowest; the first ones where nothing is scored."""
    scored = [record for record in records if record["label"] is not None and record["score"] is not None]
    scored.sort(key=lambda record: (-record["score"], record["id"]))
    if not scored:
        return records[: 2 * each]
    return scored if len(scored) <= 2 * each else [*scored[:each], *scored[-each:]]


def example_rows(records: Sequence[Json]) -> list[list[str]]:
    was, rows = {1: "wrong", 0: "right", None: "–"}, []
    for record in records:
        texts = (markdown_text(record[key]) for key in ("question", "answer", "gold"))
        score = "–" if record["score"] is None else format_probability(record["score"])
        rows.append([*texts, was[record["label"]], score])
    return [["question", "answer", "right answer", "it was", "probability of being wrong"], *rows]


def _ladder(report: Json, split: Json) -> list[str]:
    rows = tables.ladder(report, split)
    if len(rows) == 1:
        return ["No other association was tried."]
    return [
        "The same features on the same latents and folds, with other associations between layers:",
        markdown_table(rows),
        f"![The ladder of associations]({drawn.ABLATION_PICTURE.name})",
    ]


def _comparisons(report: Json, split: Json, about: str) -> list[str]:
    rows = tables.comparisons(report, split, about)
    return [markdown_table(rows)] if len(rows) > 1 else ["not compared."]


def _split(report: Json, split: Json) -> list[str]:
    """A harder split in full."""
    figures = (*tables.RANKING[:2], "f1", "brier_skill", "ece", "prr")
    compared = [tables.comparisons(report, split, about) for about in ("detector", "increment")]
    return [
        f"### {split['title']}",
        f"Questions: {split['n']:,}; relations: {split['n_relations']:,}; groups: {split['n_groups']:,}; wrong: "
        f"{split['prevalence']:.0%}. {_repeats(split)}",
        markdown_table(tables.methods(report, split, figures)),
        *(markdown_table(rows) for rows in (*compared, tables.ladder(report, split)) if len(rows) > 1),
    ]


def _early_warning(report: Json) -> list[str]:
    if not report["early_warning"]:
        return ["It was not measured how soon a wrong answer is known."]
    return [
        "AUROC from the first layers alone, and from the prompt alone, before a token of the answer is generated:",
        f"![Early warning]({drawn.EARLY_PICTURE.name})",
        markdown_table(tables.early_warning(report)),
    ]


def _error_types(report: Json) -> list[str]:
    if not report["error_types"]:
        return ["Kinds of wrong answers were not distinguished."]
    found = ["Each kind of wrong answer against all right ones:", markdown_table(tables.error_types(report))]
    if agreement := report.get("error_type_agreement"):
        found.append(
            f"Kinds are told from the account of the answer's first token. By the leaders of the tracks alone {agreement['same']:,} of "
            f"{agreement['n']:,} wrong answers would be of the same kind (kappa {agreement['kappa']:.2f})."
        )
    return found


def _repeats(split: Json) -> str:
    if split["repeats"] == 1:
        return ""
    return (
        f"The cross-validation was repeated {split['repeats']} times; a figure is the mean over repeats, in each resample "
        "as in the sample. "
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
