// The trajectory of one position, over the layers: three contestants as streams, the account of the lead and what wrote it, the
// tracks as lanes that open their latent, and the logit lens. All but the lanes is drawn by Plot, whose marks are an element a
// datum: a lane is one link of many pieces, each with a width at both ends.

const LANE = 21;
const LANES = 20; // tracks drawn at first, the strongest

// Who competes at a position: the token that the model emits next, the right one where it is a candidate, the strongest other.
function contestants(record, cells, cell, tokens) {
  const own = cell.candidates(), list = own.length ? own : cells.find((each) => each.position === 0)?.candidates() ?? [];
  const name = (token) => (token === undefined ? undefined : tokens[token] ?? `token ${token}`);
  const bySide = (side) => list.find((candidate) => candidate.side === side)?.token;
  const said = record.token_ids?.[Math.max(cell.position, 0)] ?? list[0]?.token; // greedy: the end is the likeliest too
  const right = bySide(2), rival = bySide(3), strongest = list.find((candidate) => candidate.token !== said)?.token;
  const kindOf = (token) => (token === undefined ? "other" : token === said ? "for" : token === right ? "right" : token === rival ? "against" : "other");
  return {
    said, right, rival, list, kindOf, text: name, strongest,
    saidText: record.tokens?.[Math.max(cell.position, 0)] ?? name(said) ?? "the answer",
    opponentKind: right === undefined ? "against" : "right", opponentText: name(right ?? rival) ?? "its strongest rival",
    strongestText: name(strongest) ?? "its strongest rival",
    rivalWords: record.gold ? "strongest wrong rival" : "strongest rival",
    leader: (rank) => list[rank]?.token,
  };
}

// A contestant in colour and pattern: a lane against the answer has those of its strongest rival, which may be the right answer.
const kindOfSide = (side, rivals) => (side !== "against" ? side : rivals.kindOf(rivals.strongest) === "right" ? "right" : "against");

// Nodes in the order of lanes: those for the emitted answer first, then those that do not matter to it, then those against.
function lanesOf(nodes) {
  const lanes = new Map();
  for (const node of nodes) {
    if (!lanes.has(node.place)) lanes.set(node.place, { track: node.track, nodes: [] });
    lanes.get(node.place).nodes.push(node);
  }
  const strongest = Math.max(...nodes.map((node) => Math.abs(node.effect ?? 0)), 1e-9);
  const found = [...lanes.values()];
  for (const lane of found) {
    lane.peak = lane.nodes.reduce((best, node) => (Math.abs(node.effect ?? 0) > Math.abs(best.effect ?? 0) ? node : best));
    lane.loudest = lane.nodes.reduce((best, node) => (node.activation > best.activation ? node : best));
    lane.side = sideOf(lane.peak.effect, strongest);
    lane.birth = lane.nodes[0].layer;
    lane.origin = BIRTH_WORDS[lane.nodes[0].birth] ?? "";
    lane.death = lane.nodes.at(-1).layer;
  }
  const order = { for: 0, neither: 1, against: 2 };
  found.sort((a, b) => order[a.side] - order[b.side] || (b.peak.effect ?? 0) - (a.peak.effect ?? 0));
  return { lanes: found, strongest, loudest: Math.max(...nodes.map((node) => node.activation), 1e-9) };
}

const sideOf = (effect, strongest) => (Math.abs(effect ?? 0) < 0.08 * strongest ? "neither" : effect > 0 ? "for" : "against");
// What gave most of the activation that a track begins with, as origins.parquet numbers it.
const BIRTH_WORDS = ["moved here by attention", "written by the MLP", "split from other latents", "out of the SAE's error before"];
const SIDE_WORDS = { for: "for the answer given", against: "for its strongest rival", neither: "for neither" };
const PARTS = [["tracks", "tracks"], ["untracked", "latents on no track"], ["bias", "biases"], ["sae_error", "what the SAE cannot explain"]];
const WRITERS = [["mlp", "MLP"], ["attention_examples", "worked examples"], ["attention_subject", "subject"], ["attention_question", "other words"], ["attention_answer", "answer so far"], ["attention_itself", "the position"]];
const WRITER_WORDS = { mlp: "the MLP", attention_examples: "attention to the worked examples", attention_subject: "attention to the subject", attention_question: "attention to the question’s other words", attention_answer: "attention to the answer so far", attention_itself: "attention to the position itself" };

// Layers at which the leading candidate is another one than a layer before.
function leadChanges(account) {
  return account.slice(1).map((row, i) => ({ layer: row.layer, from: account[i].leader, to: row.leader })).filter((each) => each.from !== each.to);
}

// The layer from which on the emitted token leads to the end, and what wrote most towards it there; before: the rank of who led
// until then; again: whether it had led before; null where it never leads.
function decision(account) {
  let at = account.length;
  while (at > 0 && account[at - 1].leader === 0) at--;
  if (at === account.length) return null;
  const told = WRITERS.map(([key]) => [key, account[at][key]]).filter(([, value]) => value !== null && value > 0);
  const [by] = told.sort((a, b) => b[1] - a[1])[0] ?? [null];
  return { layer: account[at].layer, by, always: at === 0, before: account[at - 1]?.leader, again: account.slice(0, at).some((row) => row.leader === 0) };
}

// options: {nodes, account, lens, rivals, named(layer, latent) -> {label, tokens}, width, labels, name}
function trajectory({ nodes, account, lens, rivals, named, width, name, labels = true }) {
  const all = [...new Set([...account, ...lens, ...nodes].map((row) => row.layer))].sort((a, b) => a - b);
  const { lanes, strongest, loudest } = nodes.length ? lanesOf(nodes) : { lanes: [], strongest: 1, loudest: 1 };
  const narrow = width < 640, left = labels ? (narrow ? 128 : 176) : 58, right = labels ? (narrow ? 66 : 84) : 14, begin = d3.scaleBand(all, [left, width - right]), step = begin.bandwidth();
  const frame = { all, left, right, width, step, labels, narrow, parts: [], y: 8, px: (layer) => begin(layer) + step / 2 };
  frame.title = (text, where) => labels && frame.parts.push(s("text", { class: "label", x: left - 8, y: where, "text-anchor": "end" }, text));
  const top = frame.y, parts = frame.parts;
  if (account.length) {
    streams(frame, account, rivals);
    leaders(frame, account, rivals);
    if (account.some((row) => row.total !== null)) {
      accountBars(frame, account, rivals);
      if (labels) writerRows(frame, account, rivals);
    }
  }
  if (lanes.length && account.length && labels) {
    frame.title("tracks", frame.y + 10);
    frame.y += 18;
  }
  for (const lane of lanes) parts.push(laneOf(lane, frame, { all, strongest, loudest, rivals, named }));
  frame.y += 4;
  if (!lanes.length) { parts.push(s("text", { class: "label", x: left, y: frame.y + 14 }, "no tracks here")); frame.y += 22; }
  for (const change of leadChanges(account)) {
    parts.push(s("line", { class: "lead", x1: begin(change.layer), x2: begin(change.layer), y1: top, y2: frame.y }, s("title", null, `layer ${change.layer}: the lead changes from ${visible(rivals.text(rivals.leader(change.from)))} to ${visible(rivals.text(rivals.leader(change.to)))}`)));
  }
  frame.title("layer", frame.y + 14);
  const every = Math.ceil(all.length / (width / 36));
  panel(frame, 20, 6, [Plot.text(all.filter((_, i) => i % every === 0), { x: (layer) => layer, text: String, fill: "var(--soft)" })]);
  if (lens.length) lensStrip(frame, lens, rivals);
  return s("svg", { viewBox: `0 0 ${width} ${frame.y}`, role: labels ? "group" : "img", class: labels ? "trajectory" : "trajectory small", "aria-label": `${name}: ${pictureWords(lanes, all, account, rivals)}` }, parts);
}

// Marks of Plot as the next part of the picture, so many pixels high, with a gap after it. Their places are layers.
function panel(frame, height, gap, marks, options) {
  const picture = plot({ width: frame.width, height, margin: 0, marginLeft: frame.left, marginRight: frame.right, x: { type: "band", domain: frame.all, padding: 0, round: false, axis: null }, y: { axis: null }, marks, ...options });
  frame.parts.push(s("g", { class: "plot", transform: `translate(0 ${frame.y})` }, [...picture.children].slice(1)));
  frame.y += height + gap;
}

// Bars over the layers as an area, up to the edges of the first and the last of n.
const edged = (rows) => [rows[0], ...rows, rows.at(-1)].map((row, i) => ({ ...row, x: Math.min(Math.max(i - 1, -0.5), rows.length - 0.5) }));

// The contestants' shares of the probability of all candidates, one above the other, and what the other candidates have together.
function streams(frame, account, rivals) {
  const kinds = [["said", "for", rivals.saidText], ["right", "right", rivals.text(rivals.right)], ["rival", "against", rivals.text(rivals.rival)]].filter(([key]) => account.some((row) => row[key] !== null));
  const chance = (row, key) => Math.exp(row[key] ?? -Infinity), height = frame.labels ? 104 : 60;
  frame.title("share among", frame.y + height / 2 - 4);
  frame.title("all candidates", frame.y + height / 2 + 12);
  const shares = [...kinds, ["other", "other", "others"]].flatMap(([key, kind, text]) => edged(account.map((row) => ({ kind, text, share: key === "other" ? Math.max(1 - d3.sum(kinds, ([each]) => chance(row, each)), 0) : chance(row, key) }))));
  const stack = (more) => Plot.stackY({ order: null }, { x: "x", y: "share", z: "kind", ...more });
  panel(frame, height, 6, [
    Plot.areaY(shares, stack({ fill: (row) => ink(row.kind) })),
    Plot.rect(account, { x1: (_, i) => i - 0.5, x2: (_, i) => i + 0.5, fillOpacity: 0, title: (row) => `layer ${row.layer}: ${kinds.map(([key, , text]) => `${visible(text)} ${share(chance(row, key))}`).join(", ")} of the probability of all candidates` }),
    frame.labels && Plot.text(shares.filter((row) => row.x > account.length - 1), stack({ text: (row) => (row.share > 0.12 ? shorten(visible(row.text), 9) : ""), textAnchor: "start", dx: 6, fill: "var(--soft)" })),
  ], { x: { domain: [-0.5, account.length - 0.5], axis: null }, y: { domain: [0, 1], axis: null } });
}

function leaders(frame, account, rivals) {
  frame.title("in the lead", frame.y + 13);
  panel(frame, 18, 8, [Plot.cell(account, { x: "layer", fill: (row) => ink(rivals.kindOf(rivals.leader(row.leader))), insetLeft: 0.5, insetRight: 0.5, rx: 2, title: (row) => `layer ${row.layer}: ${visible(rivals.text(rivals.leader(row.leader)))} leads` })]);
}

// The logit of the answer less its opponent's, and its parts; above the line what speaks for the answer.
function accountBars(frame, account, rivals) {
  const height = frame.labels ? 120 : 64;
  const words = (row) => `layer ${row.layer}: ${visible(rivals.saidText)} over ${visible(rivals.opponentText)} ${fixed(row.total, 2, true)} logits = ${PARTS.map(([key, text]) => `${text} ${fixed(row[key], 2, true)}`).join(", ")}`;
  frame.title(`lead over ${shorten(visible(rivals.opponentText), frame.narrow ? 6 : 10)},`, frame.y + height / 2 - 4);
  frame.title("in logits, by part", frame.y + height / 2 + 12);
  const parts = PARTS.flatMap(([key]) => account.map((row) => ({ layer: row.layer, key, value: row[key] ?? 0, words: words(row) })));
  panel(frame, height, 10, [
    Plot.barY(parts, Plot.stackY({ order: null }, { x: "layer", y: "value", fill: (row) => ink(row.key), title: "words", insetLeft: frame.step * 0.1, insetRight: frame.step * 0.1 })),
    Plot.ruleY([0], { stroke: "var(--soft)" }), Plot.line(account, { x: "layer", y: "total", stroke: "var(--ink)", strokeWidth: 2 }),
    frame.labels && Plot.axisY({ anchor: "right", ticks: 4, tickSize: 0, label: null, tickFormat: (value) => fixed(value, Number.isInteger(value) ? 0 : 1, value > 0), fill: "var(--soft)" }),
  ]);
}

// What each layer wrote towards the answer, or its opponent, by where it came from.
function writerRows(frame, account, rivals) {
  const told = WRITERS.filter(([key]) => account.some((row) => row[key])).map(([key, text], i) => ({ key, text: i ? text : `written by ${text}` }));
  const wrote = account.flatMap((row) => told.map(({ key, text }) => ({ layer: row.layer, key, text, value: row[key] ?? 0 }))), most = d3.max(wrote, (row) => Math.abs(row.value));
  panel(frame, 16 * told.length, 8, [
    Plot.cell(wrote.filter((row) => Math.abs(row.value) > 0.03 * most), { x: "layer", y: "text", insetLeft: 0.5, insetRight: 0.5, insetBottom: 2, fill: (row) => ink(row.value > 0 ? "for" : rivals.opponentKind), fillOpacity: (row) => 0.12 + (0.88 * Math.abs(row.value)) / most,
      title: (row) => `layer ${row.layer}: ${WRITER_WORDS[row.key]} wrote ${fixed(row.value, 2, true)} logits of ${visible(rivals.saidText)} over ${visible(rivals.opponentText)}` }),
    Plot.axisY({ tickSize: 0, label: null, fontSize: 13 }),
  ], { y: { domain: told.map(({ text }) => text), padding: 0, round: false, axis: null } });
}

function laneOf(lane, frame, { all, strongest, loudest, rivals, named }) {
  const { px, labels, width, left, right } = frame, middle = frame.y + LANE / 2;
  const kind = (effect) => kindOfSide(sideOf(effect, strongest), rivals);
  const group = s(labels ? "a" : "g", { class: `lane ${lane.side}`, href: labels ? latentLink(lane.loudest.layer, lane.loudest.latent) : null, "data-track": lane.track, "aria-label": labels ? laneWords(lane, named) : null });
  if (labels) group.append(s("rect", { class: "ground", x: 0, y: middle - LANE / 2, width, height: LANE }));
  const thick = (node) => 1.5 + (LANE - 5) * Math.sqrt(node.activation / loudest);
  lane.nodes.forEach((node, j) => {
    const next = lane.nodes[j + 1], words = (each) => `activation ${fixed(each.activation)}, effect ${fixed(each.effect, 3, true)} logits (${SIDE_WORDS[sideOf(each.effect, strongest)]})`;
    if (next) {
      const [a, b] = [px(node.layer), px(next.layer)], [p, q] = [thick(node) / 2, thick(next) / 2], weight = next.posterior ?? 1;
      group.append(s("path", { class: `bandpiece ${kind(next.effect)}${weight < 0.5 ? " doubtful" : ""}`, fill: ink(kind(next.effect)), "fill-opacity": (0.18 + 0.72 * weight).toFixed(2),
        d: `M${a},${middle - p}L${b},${middle - q}L${b},${middle + q}L${a},${middle + p}Z` },
        s("title", null, `layers ${node.layer}–${next.layer}: link posterior ${fixed(next.posterior)}, decoder cosine ${fixed(next.link)}, ${words(next)}`)));
    } else if (j === 0) {
      group.append(s("circle", { class: "nodepiece", fill: ink(kind(node.effect)), cx: px(node.layer), cy: middle, r: Math.max(thick(node) / 2, 2) }, s("title", null, `layer ${node.layer} only: ${words(node)}`)));
    }
  });
  const first = lane.nodes[0], last = lane.nodes.at(-1);
  if (first.layer !== all[0]) group.append(s("circle", { class: "birth", cx: px(first.layer), cy: middle, r: labels ? 3.6 : 2.6 }, s("title", null, `born in layer ${first.layer}${lane.origin && `, ${lane.origin}`}, posterior ${fixed(first.posterior)}`)));
  if (last.layer !== all.at(-1)) group.append(s("path", { class: "death", d: `M${px(last.layer) + 5},${middle - 5}l0,10` }, s("title", null, `ends in layer ${last.layer}`)));
  if (labels) {
    const { label, tokens } = named(lane.loudest.layer, lane.loudest.latent);
    group.append(s("text", { class: "lanelabel", x: left - 8, y: middle + 4, "text-anchor": "end" }, shorten(label, frame.narrow ? 16 : 22), s("title", null, `${label}; promotes ${tokens}`)));
    group.append(s("text", { class: "tick", x: width - right + 6, y: middle + 4 }, fixed(lane.peak.effect, 3, true)));
  }
  frame.y += LANE;
  return group;
}

function lensStrip(frame, lens, rivals) {
  const worded = frame.labels && frame.step >= 11, height = worded ? 76 : 20, kind = (row) => rivals.kindOf(row.top); // words side by side
  frame.title("logit lens reads", frame.y + height / 2 + 4);
  panel(frame, height, 8, [
    Plot.cell(lens, { x: "layer", fill: (row) => ink(kind(row)), insetLeft: 0.5, insetRight: 0.5, rx: 2, title: (row) => `layer ${row.layer}: of all tokens the lens reads ${visible(rivals.text(row.top))}; the answer given has rank ${row.rank}, log-probability ${fixed(row.logprob)}; entropy ${fixed(row.entropy)} nats` }),
    worded && Plot.text(lens, { x: "layer", text: (row) => shorten(plain(rivals.text(row.top)), 10), rotate: -90, frameAnchor: "bottom", textAnchor: "start", dy: -5, pointerEvents: "none",
      fill: (row) => (kind(row) === "other" ? "var(--ink)" : "var(--ground)"), stroke: (row) => ({ right: "var(--good)", against: "var(--against)" })[kind(row)] ?? "none", strokeWidth: 4 }),
  ]);
}

// What the picture shows, for who does not see it.
function pictureWords(lanes, all, account, rivals) {
  const sides = Object.entries(SIDE_WORDS).map(([side, words]) => `${lanes.filter((lane) => lane.side === side).length} ${words}`);
  const lives = lanes.map((lane) => lane.death - lane.birth + 1), mean = lives.reduce((sum, life) => sum + life, 0) / Math.max(lives.length, 1);
  const last = account.at(-1);
  const ending = last ? ` The lead changes ${plural(leadChanges(account).length, "time")}; at the end ${visible(rivals.text(rivals.leader(last.leader)))} leads.` : "";
  return `${plural(lanes.length, "track")} over ${plural(all.length, "layer")}, ${sides.join(", ")}; they live ${fixed(mean, 1)} layers on average.${ending}`;
}

function laneWords(lane, named) {
  return `track ${lane.track}, ${named(lane.loudest.layer, lane.loudest.latent).label}, ${SIDE_WORDS[lane.side]}, layers ${lane.birth} to ${lane.death}${lane.origin && `, ${lane.origin}`}, ` +
    `strongest activation ${fixed(lane.loudest.activation)} in layer ${lane.loudest.layer}, largest effect ${fixed(lane.peak.effect, 3, true)} in layer ${lane.peak.layer}`;
}

const item = (picture, ...words) => h("li", null, picture, ...words);
const contestantItems = (rivals) => [
  item(swatch("for"), "said: ", h("b", null, visible(rivals.saidText))),
  rivals.right !== undefined && item(swatch("right"), "dotted: right, ", h("b", null, visible(rivals.text(rivals.right)))),
  rivals.rival !== undefined && item(swatch("against"), `hatched: ${rivals.rivalWords}, `, h("b", null, visible(rivals.text(rivals.rival))))];
const legendOfContestants = (rivals) => h("ul", { class: "legend" }, contestantItems(rivals));

function legendOfTrajectory(rivals, account) {
  return h("ul", { class: "legend" }, contestantItems(rivals),
    account.length > 0 && item(swatch("other"), "another candidate"),
    account.some((row) => row.total !== null) && PARTS.map(([key, text]) => item(swatch(key), text)),
    item(mark(s("path", { fill: ink("neither"), "fill-opacity": 0.8, d: "M0,6L34,1L34,13L0,8Z" })), "a track: width is activation, strength the link posterior (outlined below 0.5), colour whom it speaks for"),
    item(mark(s("circle", { class: "birth", cx: 17, cy: 7, r: 4 })), "born"),
    item(mark(s("path", { class: "death", d: "M17,2l0,10" })), "ends"),
    item(mark(s("line", { class: "lead", x1: 17, x2: 17, y1: 0, y2: 14 })), "the lead changes"));
}

// The tracks as a table, with links to their latents.
function trackTable(nodes, named) {
  if (!nodes.length) return null;
  const { lanes } = lanesOf(nodes);
  return table(["track", "active on", "promotes", "side", "layers", "begins", "existence", "largest effect", "latents (layer: latent, activation, link posterior)"],
    lanes.map((lane) => [
      lane.track, ...Object.values(named(lane.loudest.layer, lane.loudest.latent)), SIDE_WORDS[lane.side], `${lane.birth}–${lane.death}`, lane.origin || "–",
      fixed(Math.max(...lane.nodes.map((node) => node.existence ?? 0))), `${fixed(lane.peak.effect, 3, true)} in layer ${lane.peak.layer}`,
      h("span", { class: "chain" }, lane.nodes.map((node, i) => [i ? " → " : "", link(latentLink(node.layer, node.latent), `${node.layer}:${node.latent}`), ` ${fixed(node.activation)}${i ? ` (${fixed(node.posterior)})` : ""}`])),
    ]), { caption: "Tracks at this position", numeric: [0, 6, 7] });
}
