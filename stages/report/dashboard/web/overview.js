// What the run found, what it took, and where each result came from.

function overviewPage(notice) {
  const found = report();
  const finding = found
    ? section("The finding",
        plainFinding(found),
        h("dl", { class: "cards" },
          card("questions", h("span", { class: "number", "data-source": "final_report.json#/data/n_labelled", "data-digits": 0 }, fixed(found.data.n_labelled, 0)), `of ${fixed(found.data.n_questions, 0)} have a label`),
          card("answered wrongly", figure("final_report.json", "/data/prevalence", { percent: true }), `${fixed(found.data.n_wrong, 0)} wrong, ${fixed(found.data.n_right, 0)} right`),
          ...mainCards(found)),
        !found.undefined && h("p", null, link("#/results", "All figures")),
        excludedWords(found))
    : section("The finding", note("This run has no evaluation yet."));
  return [
    ...absentNote(),
    finding,
    found && section("Expected and found", table(["what", "wanted", "found", "", "note"],
      found.expectations.map((each, i) => [each.metric, each.wanted, figure("final_report.json", `/expectations/${i}/found`, { digits: each.found.value < 10 ? 3 : 1 }), each.met === null ? "not measured" : each.met ? "✓\u00a0met" : "✗\u00a0not\u00a0met", each.note]),
      { caption: "Expected quality", numeric: [2] })),
    extentSection(),
    section("Stages", stageBars(), table(["stage", "units", "time", "processor time", "most memory", "GPU memory", "on disk", "finished"],
      run.stages.map((each) => [each.stage, each.units, seconds(each.seconds), seconds(each.cpu_seconds), bytes(each.memory), bytes(each.gpu_memory), bytes(each.bytes), each.finished.replace("T", " ").replace("Z", " UTC")]),
      { caption: "What each stage took", numeric: [1, 2, 3, 4, 5, 6, 7] })),
    section("Where it came from", note("A manifest lies beside each result: inputs, parameters, code and machine. Digests are sha256."),
      Object.entries(run.digests).length > 0 && table(["file", "sha256"], Object.entries(run.digests).map(([name, digest]) => [name, h("code", null, digest)]), { caption: "Files shown here", numeric: [1] }),
      folded(`${plural(run.provenance.length, "unit")} with their keys`, table(["unit", "task key", "manifest", "code", "made with", "time", "finished"],
        run.provenance.map((each) => [each.unit, h("code", { title: each.task_key }, each.task_key.slice(0, 12)), h("code", { title: each.manifest }, each.manifest.slice(0, 12)), h("code", { title: each.code }, shortCommit(each.code)),
          [each.environment.gpu, each.environment.torch && `torch ${each.environment.torch}`, `Python ${each.environment.python ?? "?"}`].filter(Boolean).join(", "), seconds(each.seconds), each.finished]), { caption: "Units", numeric: [5] })),
      folded("The charts are drawn by Observable Plot and D3: their licences", h("pre", { class: "prompt" }, notice))),
  ];
}

// Of a wrong and a right answer drawn at random, how often each gives the wrong one the higher score: what AUROC is.
function plainFinding(found) {
  if (found.undefined) return h("p", { class: "finding" }, found.undefined);
  const place = (name) => found.splits[0]?.methods.findIndex((each) => each.name === name) ?? -1;
  const base = found.splits[0]?.best_baseline.auroc, titleOf = (name) => found.methods.find((each) => each.name === name)?.title ?? name;
  const pairs = (name) => figure("final_report.json", `/splits/0/methods/${place(name)}/figures/auroc`, { percent: true });
  return h("p", { class: "finding" }, figure("final_report.json", "/data/prevalence", { percent: true }), " of the questions are answered wrongly. ",
    place(found.detector) >= 0 && ["Of a wrong and a right answer, the detector finds the wrong one the more suspicious in ", pairs(found.detector), " of pairs", base && place(base) >= 0 && [`; the best single method without tracks (${titleOf(base)}) in `, pairs(base)], ". "],
    run.reports["token_metrics.json"]?.methods.detector && ["Within long answers the detector's AUROC is ", tokenFigure("/methods/detector/token_auroc"), " token by token, that of the token's log-probability ", tokenFigure("/methods/logprob/token_auroc"), ". "],
    `${found.headline.tracking.split(". ")[0].replace(/\.$/, "")}.`);
}

const shortCommit = (code) => (code ? code.slice(0, 10) + (code.endsWith("-dirty") ? " (changed)" : "") : "–");

const card = (name, value, words) => h("div", null, h("dt", null, name), h("dd", null, value), words && h("dd", { class: "note" }, words));

function mainCards(found) {
  const grouped = found.splits[0];
  if (!grouped) return [];
  const at = (name) => grouped.methods.findIndex((each) => each.name === name);
  const titleOf = (name) => found.methods.find((each) => each.name === name)?.title ?? name;
  const base = grouped.best_baseline.auroc;
  const cards = [[found.detector, "AUROC, all questions", "auroc"], [found.detector, "AUROC within a relation", "auroc_within_relation"]];
  if (base) cards.push([base, "AUROC of the best without tracks", "auroc"]);
  return cards.filter(([name]) => at(name) >= 0).map(([name, words, metric]) => card(words, figure("final_report.json", `/splits/0/methods/${at(name)}/figures/${metric}`), titleOf(name)));
}

function excludedWords(found) {
  const reasons = Object.entries(found.data.excluded);
  return note(`Left out: ${reasons.length ? reasons.map(([reason, count]) => `${count} ${reason}`).join(", ") : "none"}. Intervals: ${share(found.confidence, 0)}, bootstrap over ${plural((found.splits[0] ?? found.data).n_groups, "group")} of questions, ${plural(found.resamples, "resample")}. Positive class: a wrong answer. Model ${found.model}, ${plural(found.layers.length, "layer")}, seed ${found.seed}.`);
}

// What was left out, so that a browser opens the file at once.
function extentSection() {
  const words = { positions: "positions of questions", tracks: "tracks, the strongest of each position", latents: "latents with a page of their own, those on the tracks that are drawn", contexts: "contexts of latents" };
  const rows = Object.entries(run.extent).filter(([, [, all]]) => all > 0);
  return rows.length > 0 && section("What this file holds", note("All questions. Of the rest a file that a browser opens at once has no room for everything:"),
    h("ul", { id: "extent" }, rows.map(([key, [some, all]]) => h("li", null, `${some === all ? "all" : `${fixed(some, 0)} of`} ${fixed(all, 0)} ${words[key]}`))));
}

function absentNote() {
  if (!run.absent.length) return [];
  return [h("aside", { class: "absent", "aria-label": "What is not in this page" }, h("p", null, "Not in this page, since the run has not made it:"),
    h("ul", null, run.absent.map((each) => h("li", null, `${each.what} (${each.file}): `, h("code", null, each.mend)))))];
}

function stageBars() {
  const total = d3.sum(run.stages, (each) => each.seconds);
  return chart({ title: `Time of the units: ${seconds(total)} in all`, most: 760, words: run.stages.map((each) => `${each.stage} ${seconds(each.seconds)}`).join(", "), height: run.stages.length * 26 + 6, marginTop: 2, marginBottom: 2, marginLeft: 90, marginRight: 70,
    x: { axis: null }, y: { domain: run.stages.map((each) => each.stage), label: null, tickSize: 0, padding: 0.3 },
    marks: [Plot.barX(run.stages, { x: "seconds", y: "stage", fill: "var(--c0)" }), Plot.text(run.stages, { x: "seconds", y: "stage", text: (each) => seconds(each.seconds), textAnchor: "start", dx: 6 })] });
}
