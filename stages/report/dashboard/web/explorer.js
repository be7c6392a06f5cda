// The list of questions with search and filters, and the page of one question.

const outcome = (question) => {
  const kind = question.label === 1 ? "wrong" : question.label === 0 ? "right" : "out";
  return h("span", { class: `outcome ${kind}` }, kind === "wrong" ? "✗ wrong" : kind === "right" ? "✓ right" : question.new ? "new, not judged" : `– ${question.excluded ?? "left out"}`);
};
const probabilityOf = (question) => question.scored?.score ?? null;
const calledWrong = (question) => question.scored?.predicted === 1;
const surprise = (question) => (question.label === null || probabilityOf(question) === null ? -1 : Math.abs(question.label - probabilityOf(question)));

const textOf = (key) => (a, b) => String(a[key] ?? "").localeCompare(String(b[key] ?? ""));
const ORDERS = {
  given: ["as they were asked", (a, b) => a.number - b.number],
  high: ["most suspicious first", (a, b) => (probabilityOf(b) ?? -1) - (probabilityOf(a) ?? -1)],
  low: ["least suspicious first", (a, b) => (probabilityOf(a) ?? 2) - (probabilityOf(b) ?? 2)],
  surprising: ["worst mistakes of the detector first", (a, b) => surprise(b) - surprise(a)],
  question: ["by question", textOf("question")], answer: ["by the model’s answer", textOf("answer")], gold: ["by right answer", textOf("gold")],
  outcome: ["wrong ones first", (a, b) => (b.label ?? -1) - (a.label ?? -1)], relation: ["by relation", textOf("relation")],
};
const OUTCOMES = { all: ["all answers", () => true], wrong: ["wrong answers", (q) => q.label === 1], right: ["right answers", (q) => q.label === 0], out: ["left out", (q) => q.label === null && !q.new], new: ["new questions", (q) => q.new === true] };
const CALLS = { all: ["whatever it said", () => true], caught: ["wrong, called wrong", (q) => q.label === 1 && calledWrong(q)], missed: ["wrong, called right", (q) => q.label === 1 && !calledWrong(q)], alarm: ["right, called wrong", (q) => q.label === 0 && calledWrong(q)], cleared: ["right, called right", (q) => q.label === 0 && !calledWrong(q)] };

// What the list is narrowed to; pages of questions carry it on, so that "next" stays within it.
const EVERY = { find: "", relation: "", outcome: "all", call: "all", order: "given" };
function selected(list, state) {
  const keep = [OUTCOMES[state.outcome] ?? OUTCOMES.all, CALLS[state.call] ?? CALLS.all].map(([, test]) => test);
  return narrowed(list, state, Object.fromEntries(column(ORDERS, 1)), (question) => (!state.relation || question.relation === state.relation) && keep.every((test) => test(question)));
}
const column = (table, part) => Object.entries(table).map(([key, parts]) => [key, parts[part]]);

async function questionsPage(query) {
  const list = await questions();
  if (!list.length) return [...absentNote(), section("Questions", note("This run has no answers yet."))];
  const relations = [...new Set(list.map((question) => question.relation))].sort(), state = stateOf(query, EVERY);
  return [listing({ title: "Questions", page: "questions", defaults: EVERY, state, hint: "words of question, answer or right answer (press /)",
    choices: [["relation", "Relation", [["", "all relations"], ...relations.map((name) => [name, name])]], ["outcome", "Answer", column(OUTCOMES, 0)], ["call", "Detector", column(CALLS, 0)], ["order", "Order", column(ORDERS, 0)]],
    heads: [["question", "question"], ["answer", "the model’s answer"], ["outcome", "it was"], ["low", "probability of being wrong", true], ["gold", "a right answer"], ["relation", "relation"]],
    select: () => selected(list, state),
    cells: (question, kept) => [link(questionLink(question.id, undefined, kept), question.question), question.answer, outcome(question), probabilityOf(question) === null ? "–" : scoreOf(question), question.gold, question.relation],
    told: (shown) => `${plural(shown.length, "question")} of ${list.length.toLocaleString("en-US")}; ${fixed(shown.filter((question) => question.label === 1).length, 0)} answered wrongly.`,
    notes: list.some((question) => question.scored?.interval) && note(INTERVAL) })];
}

const INTERVAL = "In brackets: how many of the training answers with the most similar scores were wrong (95 % interval, widened where the probability lies outside it).";

// One number of the question's score; the probability itself with its interval.
function scoreOf(question, key = "score") {
  const part = (name, text, kind = "number") => h("span", { class: kind, "data-source": `hallucination_scores.json#${question.id}`, "data-key": name, "data-digits": 3 }, text);
  const interval = key === "score" && question.scored.interval;
  return [part(key, fixed(question.scored[key])), interval && part("interval", ` [${interval.map((end) => fixed(end)).join(", ")}]`, "interval")];
}

async function questionPage(id, query) {
  const list = await questions(), question = list.byId.get(id);
  if (!question) return [section("Not found", note(`This page has no question ${id}.`), h("p", null, link("#/questions", "All questions")))];
  const [record, vocabulary, index] = await Promise.all([details(question), block("tokens"), latents()]);
  const other = list.byId.get(query.get("beside")) ?? (question.beside >= 0 ? list[question.beside] : null);
  const beside = other && (await details(other)), tokens = { data: { ...vocabulary.data, ...beside?.texts, ...record.texts } };
  const state = stateOf(query, EVERY), kept = stateWords(state, EVERY), some = selected(list, state), place = some.indexOf(question);
  const at = (position) => record.cells.find((each) => each.position === position) ?? record.cells.find((each) => each.position === 0) ?? record.cells[0];
  const parting = at(record.reason?.position ?? 0), cell = query.has("position") ? at(Number(query.get("position"))) : parting;
  const named = (layer, latent) => {
    const at = index.place.get(`${layer}/${latent}`);
    return { label: index.label[at]?.[0] ?? `no label, ${layer}:${latent}`, tokens: (index.promoted[at] ?? []).map(visible).join(" ") };
  };
  const step = (by, words) => place >= 0 && some[place + by] && link(questionLink(some[place + by].id, undefined, kept), words);
  return [
    section(question.question,
      h("p", { class: "near" }, [step(-1, "← previous"), link(`#/questions${kept ? `?${kept}` : ""}`, some.length < list.length ? `the ${plural(some.length, "question")} of the list` : "all questions"), step(1, "next →")].filter(Boolean).flatMap((each, i) => (i ? [" · ", each] : [each]))),
      verdict(question, record, parting && contestants(record, record.cells, parting, tokens.data), parting?.account() ?? []),
      tokensOf(question, record, kept)),
    cell ? trajectorySection({ question, record, cell, tokens: tokens.data, named, kept }) : section("Trajectory", note("This run has no trajectories yet."), ...absentNote()),
    takeOutForm(question, cell, named),
    (!question.new || record.interventions) && later(() => interventionsSection(record, tokens.data, named)),
    later(() => contextsSection(record.contexts)),
    cell && other && later(() => besideSection({ question, record, other, beside, cell, tokens: tokens.data, named, list, kept })),
    later(() => contributionsSection(record.explanation, list)),
    section("Asked as", h("pre", { class: "prompt" }, record.prompt), record.samples?.length > 0 && folded(`${plural(record.samples.length, "sampled answer")}`, h("ul", null, record.samples.map((text) => h("li", null, text)))),
      note(`Question ${question.id}; relation ${question.relation}; subject ${record.subject}; group ${record.group}${question.gold ? `; accepted answers: ${record.aliases?.join(", ") ?? question.gold}` : ""}.`)),
  ];
}

// Asked, said, right; when it was decided and by what; how sure the detector is.
function verdict(question, record, rivals, account) {
  const others = (record.aliases ?? []).filter((text) => text !== question.gold), some = others.slice(0, 6).join(", ") + (others.length > 6 ? ", …" : "");
  const judged = question.label === 1 ? ["; a right answer is ", h("b", { class: "right" }, question.gold), others.length > 0 && ` (also accepted: ${some})`] : "";
  const said = [h("p", { class: "finding" }, `Asked “${question.question}”, the model said `, h("b", { class: "for" }, question.answer || "(nothing)"), ": ", outcome(question), judged, ".")];
  const found = account.length > 0 && decision(account);
  const reason = record.reason ? `${record.reason.sentence} ` : "", last = account.at(-1)?.layer, it = `“${plain(rivals?.saidText)}”`;
  if (found) {
    const since = found.always ? "in every layer" : found.layer === last ? `${found.again ? "again" : "only"} at the last layer, ${last}` : `${found.again ? "again " : ""}from layer ${found.layer} to the last, ${last}`;
    const by = !reason && found.by && !found.always && [` At layer ${found.layer}, `, h("b", null, WRITER_WORDS[found.by]), ` wrote most of its lead over “${plain(rivals.opponentText)}”.`];
    said.push(h("p", null, reason, `Of all candidates, ${it} leads ${since}${found.always ? "" : `, after “${plain(rivals.text(rivals.leader(found.before)))}”`}.`, by));
  } else if (reason || account.length) said.push(h("p", null, reason, account.length > 0 && `${it} does not lead the candidates at layer ${last}, the last that was read: it was decided in a layer above, or the answer was given.`));
  const scored = question.scored;
  if (scored?.unfamiliar) said.push(h("p", null, h("b", null, "The question is unlike all that the detector was fitted on"), `: its score counts for little. By its probability alone the answer is wrong with probability ${fixed(scored.baseline)}.`));
  else if (scored?.other_form) said.push(note("It is put in a form that the detector was not fitted on."));
  if (scored?.score !== undefined && scored.score !== null) {
    const good = question.label === null ? "" : scored.predicted === question.label ? " That is so." : " That is not so.";
    said.push(h("p", null, "The detector puts the probability that it is wrong at ", scoreOf(question), (scored.threshold ?? null) !== null && scored.predicted !== null ? [" and calls it ", h("b", null, scored.predicted ? "wrong" : "right"), ", at a threshold of ", scoreOf(question, "threshold"), "."] : ".", good));
    if (scored.interval) said.push(note(INTERVAL));
  }
  return said;
}

// The answer's tokens, each a link to its position, shaded by the detector's risk or else by how unlikely the model found them.
function tokensOf(question, record, kept) {
  if (!record.tokens?.length) return null;
  const risks = new Map((record.risk ?? []).map((row) => [row.position, row]));
  const value = (i) => risks.get(i + 1)?.risk ?? (risks.size ? 0 : 1 - Math.exp(record.logprobs?.[i] ?? 0));
  const there = new Set(record.cells.map((cell) => cell.position));
  const labelled = (i) => ["right", "wrong"][risks.get(i + 1)?.label] ?? "–", marked = [...risks.values()].some((row) => row.label === 1);
  const words = (i) => `${risks.get(i + 1)?.label === 1 ? "in a span labelled wrong, " : ""}${risks.has(i + 1) ? `risk ${fixed(risks.get(i + 1).risk)}, ` : ""}probability ${share(Math.exp(record.logprobs?.[i]))}, entropy ${fixed(record.entropies?.[i], 2)} nats`;
  const chips = record.tokens.map((token, i) => {
    const inner = h("span", { class: `token heat${Math.min(Math.round(5 * value(i)), 4)}${risks.get(i + 1)?.label === 1 ? " labelled" : ""}`, title: words(i) }, visible(token));
    return h("li", null, there.has(i + 1) ? link(questionLink(question.id, i + 1, kept), inner) : inner, record.tokens.length <= 6 && h("span", { class: "note" }, ` ${words(i)}`));
  });
  return [h("ol", { class: "answertokens", "aria-label": "Answer tokens" }, chips),
    note(risks.size ? `Stronger shade: riskier, by the detector of tokens.${marked ? " Underlined: in a span that is labelled wrong." : ""}` : "Stronger shade: less likely to the model."),
    record.tokens.length > 6 && folded("Answer tokens as a table", table(["token", "risk", "label", "log-probability (nats)", "entropy (nats)"], record.tokens.map((token, i) => [visible(token), fixed(risks.get(i + 1)?.risk), labelled(i), fixed(record.logprobs?.[i]), fixed(record.entropies?.[i])]), { caption: "Answer tokens", numeric: [1, 3, 4] }))];
}

function trajectorySection({ question, record, cell, tokens, named, kept }) {
  const rivals = contestants(record, record.cells, cell, tokens);
  const nodes = cell.nodes(), account = cell.account(), layers = cell.layers(), lens = cell.lens();
  const places = h("nav", { class: "choices", "aria-label": "Positions" }, record.cells.map((each) => h("a", { href: questionLink(question.id, each.position, kept), "aria-current": each === cell ? "true" : null },
    each.position < 0 ? "subject" : each.position === 0 ? "last prompt token" : visible(record.tokens?.[each.position - 1]))));
  const drawn = nodes.filter((node) => node.place < LANES), every = new Set(nodes.map((node) => node.place)).size;
  const changes = leadChanges(account), token = (rank) => visible(rivals.text(rivals.leader(rank)));
  const list = changes.length > 0 && folded(`The lead changes ${plural(changes.length, "time")}`, h("ul", { class: "changes" }, changes.map((change) => h("li", null, `Layer ${change.layer}: from ${token(change.from)} to ${token(change.to)}.`))));
  const draw = (some) => fitted(() => trajectory({ nodes: some, account, lens, rivals, named, width: widthOf(1180), name: `Trajectory of ${question.question}` }));
  const picture = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Trajectory, with a track a lane" }, draw(drawn));
  picture.addEventListener("keydown", (event) => {
    const lane = event.target.closest?.(".lane");
    if (!lane || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    const all = [...picture.querySelectorAll(".lane")], next = all[all.indexOf(lane) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { event.preventDefault(); next.focus(); }
  });
  const all = every > LANES && h("button", { type: "button", class: "more", onclick: () => { picture.replaceChildren(draw(nodes)); offerSaving(); all.remove(); } }, `Draw all ${every} tracks, not only the ${LANES} strongest`);
  const missing = rivals.right === undefined && question.label === 1 && cell.position <= 0 && rivals.list.length > 0;
  const layerRow = (row) => {
    const read = lens.find((each) => each.layer === row.layer), its = account.find((each) => each.layer === row.layer);
    return [row.layer, row.n_active, row.births, row.deaths, fixed(row.association_entropy), fixed(row.error), read ? visible(rivals.text(read.top)) : "–", read ? read.rank : "–", fixed(read?.logprob), fixed(read?.entropy),
      its ? token(its.leader) : "–", ...["said", "right", "rival", "total", ...PARTS.map(([key]) => key), ...WRITERS.map(([key]) => key)].map((key) => fixed(its?.[key]))];
  };
  return section("How the answer came about", places,
    h("p", null, cell.position < 0 ? "At the end of the subject" : cell.position === 0 ? "At the last prompt token" : `After “${plain(record.tokens.slice(0, cell.position).join(""))}”`, ", layer by layer: ", account.length > 0 && "the candidates’ shares of their probability, who leads, what the answer’s lead is made of and what wrote it; ", "the strongest tracks. A lane opens its latent, named by the tokens that it is active on where these tell it well; the number at its end is its largest direct effect, in logits, on the answer over its strongest rival, ", h("b", null, visible(rivals.strongestText)), "."),
    missing && note("No right answer is among the model’s candidates here, so none is drawn."), !account.length && (question.new || run.absent.length > 0) && note(question.new ? "This question was scored before accounts of new answers were made; " : "This run has no account of its answers yet; ", h("code", null, question.new ? "ghosttrack score" : "ghosttrack run"), " makes it."),
    legendOfTrajectory(rivals, account), picture, all, list,
    folded("Tracks as a table, with their latents", () => trackTable(nodes, named)),
    layers.length > 0 && folded("Layers as a table", () => table(["layer", "latents", "births", "deaths", "entropy of the association (nats)", "SAE error", "lens reads", "its rank of the answer", "its log-probability of the answer (nats)", "its entropy (nats)", "in the lead", "log-probability among the candidates: the answer", "the right one", "the rival", "lead (logits)", ...PARTS.map(([, text]) => text), ...WRITERS.map(([, text]) => `written: ${text}`)],
      layers.map(layerRow), { caption: "Layers", numeric: [...Array(10).keys(), ...Array.from({ length: 14 }, (_, i) => i + 11)].filter((i) => i !== 6) })),
    rivals.list.length > 0 && folded("Candidate answers of the model", () => table(["token", "log-probability"], rivals.list.map((each) => [visible(rivals.text(each.token)), fixed(each.logprob)]), { caption: "Candidates", numeric: [1] })));
}

// What the model says with tracks taken out, and with as many other latents taken out at the same places.
function interventionsSection(record, tokens, named) {
  const rows = record.interventions;
  if (!rows?.length) return section("With tracks taken out", note("Not measured for this question. ", h("code", null, "ghosttrack intervene"), " measures it: it takes a track out and lets the model go on."));
  const nameOf = (row) => {
    if (row.kind === "set") return row.size === 1 ? "the track of largest predicted effect" : `the ${row.size} of largest predicted effect`;
    const nodes = (record.cells.find((cell) => cell.position === row.position)?.nodes() ?? []).filter((node) => node.track === row.track);
    const loudest = nodes.length && nodes.reduce((best, node) => (node.activation > best.activation ? node : best));
    const words = `track ${row.track}, ${row.position < 0 ? "subject" : "last prompt token"}`;
    return loudest ? [link(latentLink(loudest.layer, loudest.latent), named(loudest.layer, loudest.latent).label), ` (${words})`] : words;
  };
  const most = Math.max(...rows.flatMap((row) => [Math.abs(row.drop ?? 0), Math.abs(row.control_drop ?? 0)]), 1e-9);
  const bar = (value, kind, y) => value !== null && s("rect", { class: kind, x: Math.min(50, 50 + (value / most) * 48), y, width: Math.max((Math.abs(value) / most) * 48, 0.5), height: 5 });
  const says = (token) => visible(tokens[token] ?? `token ${token}`);
  const sets = rows.filter((row) => row.kind === "set" && row.changed).sort((a, b) => a.size - b.size);
  return section("With tracks taken out",
    h("p", null, sets.length ? [`Without the ${sets[0].size === 1 ? "track" : `${sets[0].size} tracks`} of largest predicted effect the model begins with `, h("b", null, says(sets[0].token)), sets[0].right ? ", as a right answer does; " : ", as no right answer does; ", ...(sets[0].control_changed ? ["but without as much of other latents it changes too, to ", h("b", null, says(sets[0].control_token)), "."] : ["without as much of other latents it stays as it is."])] : "No set of tracks that was taken out changes the answer’s first token."),
    note("Drops of the answer’s lead over its strongest rival, in logits. Upper bar: measured; lower, hollow: with as much of other latents taken out instead."),
    table(["taken out", "predicted", "measured", "control", "", "says then", "control says"], rows.map((row) => [nameOf(row), fixed(row.predicted, 2, true), fixed(row.drop, 2, true), fixed(row.control_drop, 2, true),
      s("svg", { viewBox: "0 0 100 14", width: 100, height: 14, class: "inline", role: "img", "aria-label": `measured ${fixed(row.drop, 2, true)}, control ${fixed(row.control_drop, 2, true)}` }, s("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 14 }), bar(row.drop, "bar", 1), bar(row.control_drop, "hollowbar", 8)),
      row.changed ? [h("b", null, says(row.token)), row.right ? " ✓" : ""] : "the same", row.control_changed ? says(row.control_token) : "the same"]), { caption: "Tracks taken out", numeric: [1, 2, 3] }));
}

const CONTEXT_WORDS = { examples: "other examples", reversed: "reversed", halved: "fewer examples", turned: "other order", general: "general", instruction: "instruction" };

// How likely each candidate answer is in every context that the question was asked in; what is left is all other answers.
function contextsSection(found) {
  if (!found || found.kinds.length < 2) return null;
  const order = [...found.answers.keys()].sort((a, b) => (a ? 1 : 0) - (b ? 1 : 0) || (found.answers[a][1] === 2 ? 0 : 1) - (found.answers[b][1] === 2 ? 0 : 1));
  let rivals = 0;
  const kinds = new Map(order.map((k) => [k, found.answers[k][1] === 1 ? "for" : found.answers[k][1] === 2 ? "right" : rivals++ ? "neither" : "against"]));
  const words = found.kinds.map((kind, i) => (i ? CONTEXT_WORDS[kind] ?? kind : kind));
  const rows = found.kinds.flatMap((_, i) => {
    const chances = order.map((k) => found.answers[k][2][i]), title = `${words[i]}: ${order.map((k, j) => `${found.answers[k][0] || "(nothing)"} ${share(chances[j])}`).join(", ")}`;
    return [...order.map((k, j) => ({ i, title, kind: kinds.get(k), chance: chances[j] })), { i, title, kind: "other", chance: 1 - d3.sum(chances) }];
  });
  return section("The same question in other contexts",
    found.sentence && h("p", null, found.sentence),
    note("Probability that the model gives each answer, asked as it was and after other worked examples; what is left is all other answers together."),
    chart({ title: "Candidate answers by context", most: 580, height: 220, x: axis("context", { ticks: null, tickSize: 0, tickFormat: (i) => (i ? String(i) : "as asked") }), y: axis(null, { domain: [0, 1], ticks: 2, tickFormat: (value) => share(value, 0) }),
      marks: [Plot.barY(rows, Plot.stackY({ order: null }, { x: "i", y: "chance", fill: (row) => ink(row.kind), title: "title", inset: 0.5 }))],
      below: h("ul", { class: "legend" }, order.map((k) => h("li", null, swatch(kinds.get(k)), shorten(found.answers[k][0] || "(nothing)", 30), k === 0 ? " (said)" : found.answers[k][1] === 2 ? " (right)" : "")), h("li", null, swatch("other"), "all other answers")) }),
    folded("Candidate answers by context as a table", table(["answer", ...words.map((word, i) => (i ? `${i}: ${word}` : word))], order.map((k) => [found.answers[k][0] || "(nothing)", ...found.answers[k][2].map((each) => fixed(each))]), { caption: "Candidate answers by context", numeric: [...words.keys()].map((i) => i + 1) })));
}

// Another question beside this one: the nearest of its relation that went the other way, or any that is chosen.
function besideSection({ question, record, other, beside, cell, tokens, named, list, kept }) {
  const its = beside.cells.find((each) => each.position === cell.position) ?? beside.cells.find((each) => each.position === 0);
  if (!its) return null;
  const chosen = list[question.beside] !== other, own = contestants(record, record.cells, cell, tokens), rivals = contestants(beside, beside.cells, its, tokens);
  const input = h("input", { list: "others", size: 36, placeholder: "a question or its id", "aria-label": "Another question to set beside this one", onchange: ({ target }) => {
    const found = list.byId.get(target.value) ?? list.find((each) => each.question === target.value);
    target.setCustomValidity(found ? "" : "No question has this id or these words.");
    if (target.reportValidity()) location.hash = questionLink(question.id, cell.position, [kept, `beside=${encodeURIComponent(found.id)}`].filter(Boolean).join("&"));
  } });
  const options = h("datalist", { id: "others" });
  input.addEventListener("focus", () => options.replaceChildren(...list.filter((each) => each.relation === question.relation).slice(0, 200).map((each) => h("option", { value: each.id }, each.question))), { once: true });
  return section(chosen ? "Beside it" : other.label === 0 ? "The nearest question that went right" : "The nearest question that went wrong",
    h("p", null, chosen ? "" : question.same_relation ? "Of the same relation: " : "Its relation has none; of another: ", link(questionLink(other.id, its.position), other.question), " → ", h("b", null, other.answer), " ", outcome(other), probabilityOf(other) !== null && [", probability of being wrong ", scoreOf(other)], ". Its page has its tables."),
    h("div", { class: "pair" },
      h("div", null, h("h3", null, question.question), legendOfContestants(own), trajectory({ nodes: cell.nodes().filter((node) => node.place < LANES), account: cell.account(), lens: cell.lens(), rivals: own, named, width: 580, labels: false, name: `Trajectory of ${question.question}` })),
      h("div", null, h("h3", null, other.question), legendOfContestants(rivals), trajectory({ nodes: its.nodes().filter((node) => node.place < LANES), account: its.account(), lens: its.lens(), rivals, named, width: 580, labels: false, name: `Trajectory of ${other.question}` }))),
    h("p", { class: "note" }, "Set another one beside it: ", input, options));
}

function contributionsSection(found, list) {
  if (!found) return null;
  const most = Math.max(...found.parts.map((each) => Math.abs(each.contribution)), 1e-9);
  const nearest = found.nearest_right && list.byId.get(found.nearest_right);
  const row = (value, words, width) => h("li", null,
    h("span", { class: "contribution" }, fixed(value, 3, true)),
    s("svg", { viewBox: "0 0 100 12", width: 100, height: 12, "aria-hidden": "true" }, s("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 12 }), width > 0 && s("rect", { fill: ink(value > 0 ? "against" : "for"), x: value > 0 ? 50 : 50 - width, y: 2, height: 8, width })),
    " ", words);
  return section("Why the detector says so",
    note("What each signal adds to the log-odds of being wrong; to the right: speaks for a wrong answer."),
    h("ul", { class: "contributions" },
      found.parts.map((each) => row(each.contribution, h("span", { title: each.feature }, `${each.words} ${each.contribution > 0 ? "(for wrong)" : "(for right)"}`), (Math.abs(each.contribution) / most) * 48)),
      found.rest !== null && row(found.rest, "all other signals together", 0),
      found.intercept !== null && row(found.intercept, "where every answer starts", 0),
      found.additive_log_odds !== null && row(found.additive_log_odds, h("b", null, "log-odds of being wrong, in all"), 0)),
    nearest && h("p", null, "The right answer that is most like it in these terms: ", link(questionLink(nearest.id), nearest.question), " → ", h("b", null, nearest.answer), "."));
}
