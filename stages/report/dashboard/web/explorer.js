// The list of questions with search and filters, and the page of one question.

const outcome = (question) => {
  const kind = question.label === 1 ? "wrong" : question.label === 0 ? "right" : "out";
  return h("span", { class: `outcome ${kind}` }, kind === "wrong" ? "✗ wrong" : kind === "right" ? "✓ right" : `– ${question.excluded ?? "left out"}`);
};
const probabilityOf = (question) => question.scored?.score ?? null;
const calledWrong = (question) => question.scored?.predicted === 1;
const surprise = (question) => (question.label === null || probabilityOf(question) === null ? -1 : Math.abs(question.label - probabilityOf(question)));

const ORDERS = {
  given: ["as they were asked", (a, b) => a.number - b.number],
  high: ["most suspicious first", (a, b) => (probabilityOf(b) ?? -1) - (probabilityOf(a) ?? -1)],
  low: ["least suspicious first", (a, b) => (probabilityOf(a) ?? 2) - (probabilityOf(b) ?? 2)],
  surprising: ["worst mistakes of the detector first", (a, b) => surprise(b) - surprise(a)],
};
const OUTCOMES = { all: ["all answers", () => true], wrong: ["wrong answers", (q) => q.label === 1], right: ["right answers", (q) => q.label === 0], out: ["left out", (q) => q.label === null] };
const CALLS = { all: ["whatever it said", () => true], caught: ["wrong, called wrong", (q) => q.label === 1 && calledWrong(q)], missed: ["wrong, called right", (q) => q.label === 1 && !calledWrong(q)], alarm: ["right, called wrong", (q) => q.label === 0 && calledWrong(q)], cleared: ["right, called right", (q) => q.label === 0 && !calledWrong(q)] };
const PAGE = 60;

async function questionsPage(query) {
  const list = await questions();
  if (!list.length) return [...absentNote(), section("Questions", note("This run has no answers yet."))];
  const relations = [...new Set(list.map((question) => question.relation))].sort();
  const state = { find: query.get("find") ?? "", relation: query.get("relation") ?? "", outcome: query.get("outcome") ?? "all", call: query.get("call") ?? "all", order: query.get("order") ?? "given" };
  const count = h("p", { role: "status", class: "note", id: "found" }), body = h("tbody"), more = h("button", { type: "button", class: "more" }, "Show more");
  let shown = [], drawn = 0;

  const row = (question) => h("tr", null,
    h("td", null, link(questionLink(question.id), question.question)), h("td", null, question.answer), h("td", null, question.gold), h("td", null, outcome(question)),
    h("td", { class: "right" }, probabilityOf(question) === null ? "–" : scoreOf(question)), h("td", null, question.relation));
  const draw = () => { body.append(...shown.slice(drawn, drawn + PAGE).map(row)); drawn = Math.min(drawn + PAGE, shown.length); more.hidden = drawn >= shown.length; };
  const update = () => {
    const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
    const keep = [OUTCOMES[state.outcome] ?? OUTCOMES.all, CALLS[state.call] ?? CALLS.all].map(([, test]) => test);
    shown = list.filter((question) => (!state.relation || question.relation === state.relation) && keep.every((test) => test(question)) && words.every((word) => question.search.includes(word)));
    shown.sort((ORDERS[state.order] ?? ORDERS.given)[1]);
    body.replaceChildren();
    drawn = 0;
    draw();
    const wrong = shown.filter((question) => question.label === 1).length;
    count.textContent = `${plural(shown.length, "question")} of ${list.length.toLocaleString("en-US")}; ${wrong.toLocaleString("en-US")} answered wrongly.`;
    const kept = new URLSearchParams(Object.entries(state).filter(([key, value]) => value && value !== "all" && !(key === "order" && value === "given")));
    history.replaceState(null, "", `#/questions${kept.size ? `?${kept}` : ""}`);
  };
  const choose = (key, name, options) => h("label", null, name, h("select", { onchange: (event) => { state[key] = event.target.value; update(); } },
    options.map(([value, text]) => h("option", { value, selected: value === state[key] }, text))));
  let waiting;
  more.addEventListener("click", draw);
  const form = h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "find" }, "Find ", h("input", { id: "find", type: "search", value: state.find, placeholder: "words of question, answer or right answer (press /)", oninput: (event) => { clearTimeout(waiting); state.find = event.target.value; waiting = setTimeout(update, 80); } })),
    choose("relation", "Relation ", [["", "all relations"], ...relations.map((name) => [name, name])]),
    choose("outcome", "Answer ", Object.entries(OUTCOMES).map(([key, [text]]) => [key, text])),
    choose("call", "Detector ", Object.entries(CALLS).map(([key, [text]]) => [key, text])),
    choose("order", "Order ", Object.entries(ORDERS).map(([key, [text]]) => [key, text])));
  update();
  return [section("Questions", form, count, list.some((question) => question.scored?.interval) && note(INTERVAL),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Questions" }, h("table", { class: "questions" }, h("thead", null, h("tr", null, ["question", "the model's answer", "right answer", "it was", "probability of being wrong", "relation"].map((name, i) => h("th", { scope: "col", class: i === 4 ? "right" : null }, name)))), body)), more)];
}

const INTERVAL = "In brackets: the 95 % interval of the share of wrong answers among the training answers that were scored most alike. The probability lies outside it where answers scored so were wrong more or less often than it says.";

// One number of the question's score; the probability itself with its interval.
function scoreOf(question, key = "score") {
  const part = (name, text, kind = "number") => h("span", { class: kind, "data-source": `hallucination_scores.json#${question.id}`, "data-key": name, "data-digits": 3 }, text);
  const interval = key === "score" && question.scored.interval;
  return [part(key, fixed(question.scored[key])), interval && part("interval", ` [${interval.map((end) => fixed(end)).join(", ")}]`, "interval")];
}

async function questionPage(id, query) {
  const list = await questions(), question = list.byId.get(id);
  if (!question) return [section("Not found", note(`This page has no question ${id}.`), h("p", null, link("#/questions", "All questions")))];
  const [record, tokens, index] = await Promise.all([details(question), block("tokens"), features()]);
  const other = question.beside >= 0 ? list[question.beside] : null;
  const beside = other && (await details(other));
  const wanted = Number(query.get("position") ?? 0);
  const cell = record.cells.find((each) => each.position === wanted) ?? record.cells.find((each) => each.position === 0) ?? record.cells[0];
  const promoted = (layer, latent) => {
    const place = index.place.get(`${layer}/${latent}`);
    const words = place === undefined ? null : index.promoted[place];
    return words?.length ? words.map(plain).join(" · ") : null;
  };
  const step = (by) => list[question.number + by] && link(questionLink(list[question.number + by].id), by < 0 ? "← previous" : "next →");
  return [
    section(question.question,
      h("p", { class: "near" }, step(-1), step(-1) && " · ", link("#/questions", "all questions"), step(1) && " · ", step(1)),
      verdict(question, record),
      tokensOf(record)),
    cell ? trajectorySection(question, record, cell, tokens.data, promoted, other, beside) : section("Trajectory", note("This run has no trajectories yet."), ...absentNote()),
    contributionsSection(record.explanation, list),
    section("Asked as", h("pre", { class: "prompt" }, record.prompt), record.samples?.length > 0 && folded(`${plural(record.samples.length, "sampled answer")}`, h("ul", null, record.samples.map((text) => h("li", null, text)))),
      note(`Question ${question.id}; relation ${question.relation}; subject ${record.subject}; group ${record.group}; accepted answers: ${record.aliases?.join(", ") ?? question.gold}.`)),
  ];
}

function verdict(question, record) {
  const said = [h("p", { class: "finding" }, "The model answered ", h("b", null, question.answer || "(nothing)"), ": ", outcome(question), ". The right answer is ", h("b", null, question.gold), ".")];
  const scored = question.scored;
  if (scored?.score !== undefined && scored.score !== null) {
    const good = question.label === null ? "" : scored.predicted === question.label ? " That is so." : " That is not so.";
    said.push(h("p", null, "The detector gives it a probability of ", scoreOf(question), " of being wrong", scored.threshold !== undefined && scored.threshold !== null ? [" and calls it ", h("b", null, scored.predicted ? "wrong" : "right"), ", at a threshold of ", scoreOf(question, "threshold"), "."] : ".", good));
    if (scored.interval) said.push(note(INTERVAL));
  }
  return said;
}

function tokensOf(record) {
  if (!record.tokens?.length) return null;
  return h("ol", { class: "answertokens", "aria-label": "Answer tokens" }, record.tokens.map((token, i) => h("li", null, h("b", null, visible(token)),
    h("span", { class: "note" }, ` log-probability ${fixed(record.logprobs?.[i])}, entropy ${fixed(record.entropies?.[i])}`))));
}

function trajectorySection(question, record, cell, tokens, promoted, other, beside) {
  const rivals = contestants(record, record.cells, cell, tokens);
  const nodes = cell.nodes(), nulls = cell.null(), layers = cell.layers(), lens = cell.lens();
  const changes = leadChanges(layers);
  const places = h("nav", { class: "choices", "aria-label": "Positions" }, record.cells.map((each) => h("a", { href: questionLink(question.id, each.position), "aria-current": each === cell ? "true" : null },
    each.position < 0 ? "subject" : each.position === 0 ? "last prompt token" : visible(record.tokens?.[each.position - 1]))));
  const list = h("ul", { class: "changes" }, changes.map((change) => h("li", null, `Layer ${change.layer}: the lead goes from ${visible(rivals.text(rivals.list[change.from]?.token))} to ${visible(rivals.text(rivals.list[change.to]?.token))}.`)));
  const words = !layers.length ? null : !changes.length ? note("The lead never changes.") : changes.length <= 8 ? list : folded(`The lead changes ${changes.length} times`, list);
  const picture = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Trajectory, with a track a lane" }, trajectory({ nodes, layers, lens, rivals, promoted, width: 1180, name: `Trajectory of ${question.question}` }));
  picture.addEventListener("keydown", (event) => {
    const lane = event.target.closest?.(".lane");
    if (!lane || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    const all = [...picture.querySelectorAll(".lane")], next = all[all.indexOf(lane) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { event.preventDefault(); next.focus(); }
  });
  const small = [];
  if (other && beside) {
    const its = beside.cells.find((each) => each.position === cell.position) ?? beside.cells.find((each) => each.position === 0);
    if (its) {
      const theirs = contestants(beside, beside.cells, its, tokens);
      small.push(h("div", null, h("h3", null, other.label === 0 ? "Beside it, a right answer" : "Beside it, a wrong answer", question.same_relation ? " of the same relation" : " (its relation has none)"),
        h("p", null, link(questionLink(other.id, its.position), other.question), " → ", h("b", null, other.answer), " ", outcome(other), probabilityOf(other) !== null && [", probability of being wrong ", scoreOf(other)], ". Its page has its tables."),
        trajectory({ nodes: its.nodes(), layers: its.layers(), lens: its.lens(), rivals: theirs, promoted, width: 580, labels: false, name: `Trajectory of ${other.question}` })));
    }
  }
  if (nulls.length) {
    small.push(h("div", null, h("h3", null, "The same latents, associated at random"),
      h("p", null, "As many births, deaths and lengths, but the latents that go on are dealt out anew: what tracks look like without continuity."),
      trajectory({ nodes: nulls, layers: [], lens: [], rivals, promoted, width: 580, labels: false, track: "random_track", link: "random_link", noAssociation: true, name: "Random association" })));
  }
  return section("Trajectory", places,
    h("p", null, `How the ${nodes.length ? "strongest tracks" : "layers"} at this position lean between `, h("b", { class: "for" }, visible(rivals.emittedText)), ", which the model said, and, hatched, ", h("b", { class: "against" }, visible(rivals.rivalText)), ", its strongest rival. Each lane is a track, named by the tokens that it promotes; the number at its end is its largest effect on the difference of the two logits."),
    legendOfTrajectory(rivals), picture, words,
    small.length > 0 && h("div", { class: "pair" }, small),
    folded("Tracks as a table, with their features", trackTable(nodes, promoted)),
    layers.length > 0 && folded("Layers as a table", table(["layer", "latents", "births", "deaths", "margin", "leader", "entropy of the competition", "entropy of the association", "SAE error", "lens reads", "its rank of the answer", "its log-probability of the answer", "and of the rival", "its entropy"],
      layers.map((row) => { const read = lens.find((each) => each.layer === row.layer); return [row.layer, row.n_active, row.births, row.deaths, fixed(row.margin, 3, true), visible(rivals.text(rivals.list[row.leader]?.token)), fixed(row.competition_entropy), fixed(row.association_entropy), fixed(row.error), read ? visible(rivals.text(read.top)) : "–", read ? read.rank : "–", fixed(read?.logprob), fixed(read?.rival_logprob), fixed(read?.entropy)]; }), { caption: "Layers", numeric: [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13] })),
    rivals.list.length > 0 && folded("Candidate answers of the model", table(["token", "log-probability"], rivals.list.map((each) => [visible(rivals.text(each.token)), fixed(each.logprob)]), { caption: "Candidates", numeric: [1] })));
}

function contributionsSection(found, list) {
  if (!found) return null;
  const most = Math.max(...found.parts.map((each) => Math.abs(each.contribution)), 1e-9);
  const nearest = found.nearest_right && list.byId.get(found.nearest_right);
  const row = (value, words, width) => h("li", null,
    h("span", { class: "contribution" }, fixed(value, 3, true)),
    s("svg", { viewBox: "0 0 100 12", width: 100, height: 12, "aria-hidden": "true" }, s("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 12 }), width > 0 && s("rect", { class: value > 0 ? "against" : "for", x: value > 0 ? 50 : 50 - width, y: 2, height: 8, width })),
    " ", words);
  return section("Why the detector says so",
    note("What each column adds to the log-odds of being wrong, in the additive model on the same columns; to the right: speaks for a wrong answer."),
    h("ul", { class: "contributions" },
      found.parts.map((each) => row(each.contribution, h("span", { title: each.feature, class: "words" }, `${each.words} ${each.contribution > 0 ? "(for wrong)" : "(for right)"}`), (Math.abs(each.contribution) / most) * 48)),
      found.rest !== null && row(found.rest, "all other columns together", 0),
      found.intercept !== null && row(found.intercept, "where every answer starts", 0),
      found.additive_log_odds !== null && row(found.additive_log_odds, h("b", null, "log-odds of being wrong, in all"), 0)),
    nearest && h("p", null, "The right answer that is most like it in these terms: ", link(questionLink(nearest.id), nearest.question), " → ", h("b", null, nearest.answer), "."));
}
