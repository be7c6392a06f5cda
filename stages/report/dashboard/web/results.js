// How well wrong answers are found: every method, every split, with intervals.

function resultsPage(query) {
  const found = report();
  if (!found) return [...absentNote(), section("Results", note("This run has no evaluation yet."))];
  const number = Math.max(0, found.splits.findIndex((each) => each.split === query.get("split")));
  const split = found.splits[number];
  return [
    section("Results",
      plainFinding(found), findingTable(found), !found.undefined && folded("In words, with every figure", ["contexts", "detector", "tracking"].map((part) => h("p", null, found.headline[part]))),
      found.absent.length > 0 && folded(`Not measured: ${plural(found.absent.length, "thing")}`, h("ul", null, found.absent.map((words) => h("li", null, words)))),
      found.splits.length > 1 && h("nav", { "aria-label": "Ways to hold questions back", class: "choices" }, found.splits.map((each, i) => h("a", { href: `#/results?split=${encodeURIComponent(each.split)}`, "aria-current": i === number ? "true" : null }, each.title)))),
    number === 0 && tokensSection(),
    split && section(split.title, note(split.description, ` ${fixed(split.n, 0)} questions, ${fixed(split.n_wrong, 0)} answered wrongly (${share(split.prevalence)}), ${plural(split.n_groups, "group")}, ${plural(split.repeats, "repeat")}. Calling every answer wrong would have F1 ${fixed(split.f1_all_called_wrong)}.`, split.split === "test" && found.frozen_test_openings ? ` Opened ${plural(found.frozen_test_openings, "time")} by runs that differ in inputs, settings or code.` : "")),
    split && methodsSection(found, split, number),
    split && curvesSection(found, split, number),
    split && ladderSection(found, split, number),
    split && comparisonsSection(found, split, number),
    number === 0 && earlySection(found),
    split?.confusion && section("Decisions of the main detector", table(["", "called wrong", "called right"], [
      ["was wrong", figure("final_report.json", `/splits/${number}/confusion/wrong_called_wrong`, { digits: 1 }), figure("final_report.json", `/splits/${number}/confusion/wrong_called_right`, { digits: 1 })],
      ["was right", figure("final_report.json", `/splits/${number}/confusion/right_called_wrong`, { digits: 1 }), figure("final_report.json", `/splits/${number}/confusion/right_called_right`, { digits: 1 })]], { caption: "Mean over repeats, each at the threshold of its training side", numeric: [1, 2] })),
    number === 0 && restSections(found),
    number === 0 && validationSection(),
  ];
}

// The main detector, the best single method without tracks, and their paired difference.
function findingTable(found) {
  const rows = run.titles.finding.flatMap(([name, metric, words]) => {
    const i = found.splits.findIndex((each) => each.split === name), split = found.splits[i], compared = split?.comparisons ?? [];
    const k = compared.findIndex((each) => each.about === "detector" && each.method === found.detector && each.metric === metric);
    const of = (method) => figure("final_report.json", `/splits/${i}/methods/${split.methods.findIndex((each) => each.name === method)}/figures/${metric}`);
    return k < 0 ? [] : [[words, of(found.detector), of(compared[k].against), figure("final_report.json", `/splits/${i}/comparisons/${k}/difference`, { signed: true }), compared[k].verdict, h("span", { class: "name" }, methodTitle(found, compared[k].against))]];
  });
  return rows.length > 0 && table(["AUROC", "detector", "best without tracks", "difference", "the detector is", "the best without tracks is"], rows, { caption: "The finding in figures", numeric: [1, 2, 3] });
}

// Every token of answers whose spans are labelled: each figure of token_metrics.json is a value with its interval.
const tokenFigure = (pointer, options) => ranged("token_metrics.json", `${pointer}/0`, `${pointer}/1`, `${pointer}/2`, options);

function tokensSection() {
  const found = run.reports["token_metrics.json"], title = "Long answers, token by token";
  if (!found?.tokens) return null;
  if (found.why_not) return section(title, note(`No figures: ${found.why_not}.`));
  const shown = Object.entries(run.titles.tokens).filter(([key]) => key in found.methods.detector);
  const best = Object.entries(found.methods).sort(([, a], [, b]) => b.token_auroc[0] - a.token_auroc[0]).map(([name]) => name);
  return section(title, note(`${fixed(found.tokens, 0)} labelled tokens of ${plural(found.answers, "answer")}, ${fixed(found.wrong_tokens, 0)} of them in wrong spans. Each risk is from a fit without the token's document; an answer has that of its riskiest token.`),
    table(["method", ...shown.map(([, words]) => words), "detector over it"], best.map((name) => [name.replaceAll("_", " "), ...shown.map(([key]) => tokenFigure(`/methods/${name}/${key}`)),
      name in found.detector_less ? tokenFigure(`/detector_less/${name}/token_auroc`, { signed: true }) : "–"]), { caption: title, numeric: [...shown.keys()].map((i) => i + 1).concat(shown.length + 1) }));
}

// Whether tracks can be believed, and what wrong answers do without their strongest ones.
function validationSection() {
  const found = run.reports["validation.json"];
  if (!found) return null;
  const told = (passed) => (passed === null ? "could not be told" : passed ? "✓\u00a0yes" : "✗\u00a0no");
  const shares = (i, kind) => (found.changed[i][kind] ? ranged("validation.json", ...[0, 1, 2].map((k) => `/changed/${i}/${kind}/${k}`), { percent: true }) : "–");
  return section("Can tracks be believed?",
    table(["question", "", "what was found"], found.verdicts.map((each) => [each.question, told(each.passed), each.words]), { caption: "Checks of the tracker" }),
    found.changed?.length > 0 && table(["tracks taken out", "wrong answers", "begin otherwise", "with as much of other latents taken out", "begin as a right answer does"],
      found.changed.map((each, i) => [fixed(each.size, 0), fixed(each.wrong_answers, 0), ...["changed", "control", "became_right"].map((kind) => shares(i, kind))]), { caption: "Wrong answers without their tracks of largest predicted effect", numeric: [0, 1, 2, 3, 4] }));
}

const methodTitle = (found, name) => found.methods.find((each) => each.name === name)?.title ?? name;

function methodsSection(found, split, number) {
  const shown = split.methods.map((method, i) => ({ ...method, i })).filter((method) => method.kind === "detector" || method.kind === "baseline");
  const ordered = [...shown].sort((a, b) => (b.figures.auroc.value ?? 0) - (a.figures.auroc.value ?? 0));
  const description = (name) => found.methods.find((each) => each.name === name)?.description;
  return section("Methods", note("Filled: AUROC of all questions; hollow: within a relation. Blue methods see tracks."),
    forest({ title: `AUROC, ${share(found.confidence, 0)} intervals`, xLabel: "AUROC", guide: [{ x: 0.5, text: "chance" }],
      rows: ordered.map((method) => ({ name: methodTitle(found, method.name), kind: method.kind, values: [method.figures.auroc, method.figures.auroc_within_relation] })) }),
    table(["method", "sees tracks", ...Object.values(run.titles.figures)], shown.map((method) => [
      h("span", { class: "name", title: description(method.name) }, methodTitle(found, method.name)), method.kind === "detector" ? "yes" : "no",
      ...Object.keys(run.titles.figures).map((key) => figure("final_report.json", `/splits/${number}/methods/${method.i}/figures/${key}`))]),
      { caption: `Methods on ${split.title}`, numeric: Object.keys(run.titles.figures).map((_, i) => i + 2) }),
    folded("What the methods are", h("dl", null, found.methods.map((each) => [h("dt", null, each.title), h("dd", null, each.description, each.signals.length > 0 && ` Sees: ${each.signals.join(", ")}.`)]))));
}

// At most `most` of the numbers 0 to count - 1, the first and the last among them.
const spread = (count, most) => (count <= most ? [...Array(count).keys()] : [...Array(most).keys()].map((i) => Math.round((i * (count - 1)) / (most - 1))));

function curvesSection(found, split, number) {
  const chart = (kind, title, xLabel, yLabel, more) => {
    const curves = split.curves[kind];
    return curves.length > 0 && h("div", null, lineChart({ title, xLabel, yLabel, x: [0, 1], y: [0, 1], ...more,
      series: curves.slice(0, kind === "reliability" ? 2 : 6).map((curve, i) => ({ name: methodTitle(found, curve.method), points: curve.x.map((x, k) => [x, curve.y[k]]), low: i === 0 ? curve.low : null, high: curve.high, dots: kind === "reliability" })) }),
      folded(`${title} as a table`, table(["method", xLabel, yLabel], curves.slice(0, 6).flatMap((curve, i) => spread(curve.x.length, 6).map((k) => {
        const place = (key) => `/splits/${number}/curves/${kind}/${i}/${key}/${k}`;
        return [methodTitle(found, curve.method), figure("final_report.json", place("x")), ranged("final_report.json", place("y"), place("low"), place("high"))];
      })), { caption: title, numeric: [1, 2] })));
  };
  return section("Curves", h("div", { class: "charts" },
    chart("roc", "ROC", "right answers called wrong", "wrong answers called wrong", { diagonal: [0, 1] }),
    chart("precision_recall", "Precision and recall of wrong answers", "recall", "precision", { marks: [{ y: split.prevalence, text: "prevalence" }] }),
    chart("reliability", "Reliability", "probability of being wrong", "share wrong", { diagonal: [0, 1] }),
    chart("risk_coverage", "Risk and coverage", "share of answers kept", "share wrong among them", { y: [0, Math.max(split.prevalence, ...split.curves.risk_coverage.flatMap((curve) => curve.y)) * 1.08] })),
    note("The shaded band is the pointwise interval of the first method."));
}

function ladderSection(found, split, number) {
  const rungs = split.methods.map((method, i) => ({ ...method, i, card: found.methods.find((each) => each.name === method.name) })).filter((method) => method.kind === "rung");
  if (!rungs.length) return null;
  rungs.sort((a, b) => found.methods.indexOf(a.card) - found.methods.indexOf(b.card)); // the report's order is the ladder's
  return section("Associations compared", note("The same latents and the same signals with other associations between layers. Tracking helps only where an association beats none and random association."),
    forest({ title: "AUROC by association", xLabel: "AUROC", rows: rungs.map((rung) => ({ name: rung.card?.title ?? rung.name, kind: "detector", values: [rung.figures.auroc, rung.figures.auroc_within_relation] })) }),
    table(["association", "AUROC", "AUROC within relation", "F1"], rungs.map((rung) => [rung.card?.title ?? rung.name,
      ...["auroc", "auroc_within_relation", "f1"].map((key) => figure("final_report.json", `/splits/${number}/methods/${rung.i}/figures/${key}`))]), { caption: "Associations", numeric: [1, 2, 3] }));
}

function comparisonsSection(found, split, number) {
  if (!split.comparisons.length) return null;
  const about = { detector: "detector against the best without tracks", association: "association against a null", increment: "with tracks against without", contexts: "answers in other contexts" };
  return section("Do tracks help?", number === 0 && h("p", null, found.headline.tracking), folded("Every paired difference, on the same resamples of the same questions", table(["question", "method", "against", "figure", "difference", "verdict"],
    split.comparisons.map((each, i) => [about[each.about], methodTitle(found, each.method), methodTitle(found, each.against), run.titles.figures[each.metric] ?? each.metric,
      figure("final_report.json", `/splits/${number}/comparisons/${i}/difference`, { signed: true }), each.verdict]), { caption: "Paired differences", numeric: [4] })));
}

function earlySection(found) {
  const points = found.early_warning;
  if (!points.length) return null;
  const series = [true, false].map((before) => {
    const some = points.filter((each) => each.before_answer === before);
    return { name: before ? "before the answer (prompt alone)" : "with the answer", dots: true, points: some.map((each) => [each.depth, each.auroc.value]), low: some.map((each) => each.auroc.low), high: some.map((each) => each.auroc.high) };
  }).filter((each) => each.points.length);
  return section("Early warning", note("What is known after the first layers alone."),
    h("div", { class: "charts" }, lineChart({ title: "AUROC by share of the layers seen", series, xLabel: "share of layers", yLabel: "AUROC", x: [0, 1], xTick: (value) => share(value, 0) })),
    table(["method", "last layer", "when", "AUROC", "AUROC within relation"], points.map((each, i) => [methodTitle(found, each.method), each.layer ?? "all", each.before_answer ? "before the answer" : "with the answer", figure("final_report.json", `/early_warning/${i}/auroc`), figure("final_report.json", `/early_warning/${i}/auroc_within_relation`)]), { caption: "Early warning", numeric: [1, 3, 4] }));
}

function restSections(found) {
  const main = found.relations.length ? Object.keys(found.relations[0].auroc) : [];
  const escape = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");
  return [
    found.permutation && section("Permuted labels", note(`A ridge regression on the same features and folds, on labels permuted within relations: ${found.permutation.n} times. Mean AUROC inside a relation and fold.`),
      h("dl", { class: "cards" }, card("observed AUROC", figure("final_report.json", "/permutation/observed")), card("mean of the permuted", ranged("final_report.json", "/permutation/mean", "/permutation/low", "/permutation/high")), card("p", figure("final_report.json", "/permutation/p_value", { digits: 4 })), card("as it should be", found.permutation.met ? "yes" : "no"))),
    found.error_types.length > 0 && section("Kinds of wrong answers", table(["kind", "what it is", "answers", "share", "AUROC", "best without tracks", "found"],
      found.error_types.map((each, i) => [each.name, each.description, fixed(each.n, 0), figure("final_report.json", `/error_types/${i}/share`, { percent: true }), ...["auroc", "baseline_auroc", "found"].map((key) => figure("final_report.json", `/error_types/${i}/${key}`))]), { caption: "Kinds of wrong answers", numeric: [2, 3, 4, 5, 6] })),
    found.relations.length > 0 && section("Relations", table(["relation", "questions", "wrong", ...main.map((name) => `AUROC of ${methodTitle(found, name)}`)],
      found.relations.map((each, i) => [link(`#/questions?relation=${encodeURIComponent(each.relation)}`, each.relation), fixed(each.n, 0), share(each.n_wrong / each.n, 0), ...main.map((name) => figure("final_report.json", `/relations/${i}/auroc/${escape(name)}`))]), { caption: "Relations", numeric: [1, 2, ...main.map((_, i) => i + 3)] })),
    found.strict && section("Against strict labels", note(`${fixed(found.strict.disagree, 0)} of ${fixed(found.strict.n, 0)} labels differ where only an exact match counts (kappa ${fixed(found.strict.kappa)}).`),
      table(["method", "AUROC", "AUROC within relation"], found.strict.methods.map((each, i) => [methodTitle(found, each.name), ...["auroc", "auroc_within_relation"].map((key) => figure("final_report.json", `/strict/methods/${i}/figures/${key}`))]), { caption: "Strict labels", numeric: [1, 2] })),
  ];
}
