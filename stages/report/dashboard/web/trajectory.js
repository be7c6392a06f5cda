// The trajectory of one position, over the layers: three contestants as streams, the account of the lead and what wrote it, the
// tracks as lanes that open their latent, and the logit lens.

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
    lane.death = lane.nodes.at(-1).layer;
  }
  const order = { for: 0, neither: 1, against: 2 };
  found.sort((a, b) => order[a.side] - order[b.side] || (b.peak.effect ?? 0) - (a.peak.effect ?? 0));
  return { lanes: found, strongest, loudest: Math.max(...nodes.map((node) => node.activation), 1e-9) };
}

const sideOf = (effect, strongest) => (Math.abs(effect ?? 0) < 0.08 * strongest ? "neither" : effect > 0 ? "for" : "against");
const SIDE_WORDS = { for: "for the answer given", against: "for its strongest rival", neither: "for neither" };
const PARTS = [["tracks", "tracks"], ["untracked", "latents on no track"], ["bias", "biases"], ["sae_error", "what the SAE cannot explain"]];
const WRITERS = [["mlp", "MLP"], ["attention_examples", "worked examples"], ["attention_subject", "subject"], ["attention_question", "other words"], ["attention_answer", "answer so far"], ["attention_itself", "the position"]];
const WRITER_WORDS = { mlp: "the MLP", attention_examples: "attention to the worked examples", attention_subject: "attention to the subject", attention_question: "attention to the question’s other words", attention_answer: "attention to the answer so far", attention_itself: "attention to the position itself" };

// Layers at which the leading candidate is another one than a layer before.
function leadChanges(account) {
  return account.slice(1).map((row, i) => ({ layer: row.layer, from: account[i].leader, to: row.leader })).filter((each) => each.from !== each.to);
}

// The layer from which on the emitted token leads to the end, and what wrote most towards it there; null where it never does.
function decision(account) {
  let at = account.length;
  while (at > 0 && account[at - 1].leader === 0) at--;
  if (at === account.length) return null;
  const told = WRITERS.map(([key]) => [key, account[at][key]]).filter(([, value]) => value !== null && value > 0);
  const [by] = told.sort((a, b) => b[1] - a[1])[0] ?? [null];
  return { layer: account[at].layer, by, always: at === 0 };
}

// options: {nodes, account, lens, rivals, promoted(layer, latent), width, labels, name}
function trajectory({ nodes, account, lens, rivals, promoted, width, name, labels = true }) {
  const all = [...new Set([...account, ...lens, ...nodes].map((row) => row.layer))].sort((a, b) => a - b);
  const { lanes, strongest, loudest } = nodes.length ? lanesOf(nodes) : { lanes: [], strongest: 1, loudest: 1 };
  const left = labels ? 176 : 58, right = labels ? 84 : 14;
  const step = (width - left - right) / Math.max(all.length, 1);
  const px = new Map(all.map((layer, i) => [layer, left + step * (i + 0.5)]));
  const frame = { left, right, width, step, px, labels, parts: [], y: 8 };
  frame.title = (text, where) => labels && frame.parts.push(s("text", { class: "label", x: left - 8, y: where, "text-anchor": "end" }, text));
  const top = frame.y;
  if (account.length) {
    streams(frame, account, rivals);
    leaders(frame, account, rivals);
    if (account.some((row) => row.total !== null)) {
      accountBars(frame, account, rivals);
      if (labels) writerRows(frame, account, rivals);
    }
  }
  const parts = frame.parts;
  if (lanes.length && account.length && labels) {
    frame.title("tracks", frame.y + 10);
    frame.y += 18;
  }
  for (const lane of lanes) parts.push(laneOf(lane, frame, { all, strongest, loudest, rivals, promoted }));
  frame.y += 4;
  if (!lanes.length) { parts.push(s("text", { class: "label", x: left, y: frame.y + 14 }, "no tracks here")); frame.y += 22; }
  for (const change of leadChanges(account)) {
    const x = px.get(change.layer) - step / 2;
    parts.push(s("line", { class: "lead", x1: x, x2: x, y1: top, y2: frame.y }, s("title", null, `layer ${change.layer}: the lead changes from ${visible(rivals.text(rivals.leader(change.from)))} to ${visible(rivals.text(rivals.leader(change.to)))}`)));
  }
  all.forEach((layer, i) => i % Math.ceil(all.length / (width / 36)) === 0 && parts.push(s("text", { class: "tick", x: px.get(layer), y: frame.y + 14, "text-anchor": "middle" }, layer)));
  frame.title("layer", frame.y + 14);
  frame.y += 26;
  if (lens.length) lensStrip(frame, lens, rivals);
  return s("svg", { viewBox: `0 0 ${width} ${frame.y}`, role: labels ? "group" : "img", class: labels ? "trajectory" : "trajectory small", "aria-label": `${name}: ${pictureWords(lanes, all, account, rivals)}` }, parts);
}

// A closed area between two heights over the layers, drawn to the edges of the first and the last.
function area(points, step) {
  const wide = [{ ...points[0], x: points[0].x - step / 2 }, ...points, { ...points.at(-1), x: points.at(-1).x + step / 2 }];
  const path = (key, list) => list.map((point) => `${point.x.toFixed(1)},${point[key].toFixed(2)}`).join("L");
  return `M${path("high", wide)}L${path("low", [...wide].reverse())}Z`;
}

// How the contestants share what probability they have together, one above the other.
function streams(frame, account, rivals) {
  const height = frame.labels ? 104 : 60, { y, px, step } = frame;
  const kinds = [["said", "for", rivals.saidText], ["right", "right", rivals.text(rivals.right)], ["rival", "against", rivals.text(rivals.rival)]].filter(([key]) => account.some((row) => row[key] !== null));
  frame.title("shares of the", y + height / 2 - 4);
  frame.title("contestants", y + height / 2 + 12);
  const shares = account.map((row) => {
    const most = Math.max(...kinds.map(([key]) => row[key] ?? -Infinity)), weights = kinds.map(([key]) => (row[key] === null ? 0 : Math.exp(row[key] - most)));
    return weights.map((each) => each / weights.reduce((sum, other) => sum + other, 0));
  });
  let below = account.map(() => 0), last = Infinity;
  kinds.forEach(([, kind, text], k) => {
    const above = below.map((low, i) => low + shares[i][k]);
    const points = account.map((row, i) => ({ x: px.get(row.layer), low: y + height * (1 - below[i]), high: y + height * (1 - above[i]) }));
    frame.parts.push(s("path", { class: `bandpiece ${kind}`, d: area(points, step) }));
    if (frame.labels && shares.at(-1)[k] > 0.04) {
      last = Math.min((points.at(-1).low + points.at(-1).high) / 2 + 4, last - 13);
      frame.parts.push(s("text", { class: "tick", x: frame.width - frame.right + 6, y: last }, shorten(visible(text), 9)));
    }
    below = above;
  });
  account.forEach((row) => frame.parts.push(s("rect", { class: "ground", x: px.get(row.layer) - step / 2, width: step, y, height },
    s("title", null, `layer ${row.layer}: ${kinds.map(([key, , text]) => `${visible(text)} ${share(Math.exp(row[key]))}`).join(", ")} of the probability of all candidates`))));
  frame.y += height + 6;
}

function leaders(frame, account, rivals) {
  frame.title("in the lead", frame.y + 13);
  for (const row of account) {
    const token = rivals.leader(row.leader);
    frame.parts.push(s("rect", { class: `leads ${rivals.kindOf(token)}`, "data-token": token, x: frame.px.get(row.layer) - frame.step / 2 + 0.5, width: frame.step - 1, y: frame.y, height: 18, rx: 2 },
      s("title", null, `layer ${row.layer}: ${visible(rivals.text(token))} leads`)));
  }
  frame.y += 26;
}

// The logit of the answer less its opponent's, and its parts; above the line what speaks for the answer.
function accountBars(frame, account, rivals) {
  const height = frame.labels ? 120 : 64, { y, px, step } = frame;
  const sums = account.map((row) => PARTS.reduce(([up, down], [key]) => (row[key] > 0 ? [up + row[key], down] : [up, down - (row[key] ?? 0)]), [0, 0]));
  const up = Math.max(...sums.map((each) => each[0]), 1e-9), down = Math.max(...sums.map((each) => each[1]), 1e-9);
  const py = (value) => y + ((up - value) / (up + down)) * height;
  frame.title("lead in logits,", py(0) - 4);
  frame.title("and its parts", py(0) + 12);
  account.forEach((row) => {
    let [above, below] = [0, 0];
    const words = PARTS.map(([key, text]) => `${text} ${fixed(row[key], 2, true)}`).join(", ");
    const group = s("g", null, s("title", null, `layer ${row.layer}: ${visible(rivals.saidText)} over ${visible(rivals.opponentText)} ${fixed(row.total, 2, true)} logits = ${words}`));
    for (const [key] of PARTS) {
      const value = row[key] ?? 0, from = value > 0 ? above : below;
      if (value > 0) above += value; else below += value;
      const [a, b] = [py(Math.max(from, from + value)), py(Math.min(from, from + value))];
      if (b - a > 0.05) group.append(s("rect", { class: `part ${key}`, x: px.get(row.layer) - step * 0.4, width: step * 0.8, y: a, height: b - a }));
    }
    frame.parts.push(group);
  });
  frame.parts.push(s("line", { class: "axis", x1: frame.left, x2: frame.width - frame.right, y1: py(0), y2: py(0) }));
  frame.parts.push(s("path", { class: "total", d: account.filter((row) => row.total !== null).map((row, i) => `${i ? "L" : "M"}${px.get(row.layer).toFixed(1)},${py(row.total).toFixed(1)}`).join("") }, s("title", null, "the lead: the sum of its parts")));
  if (frame.labels) frame.parts.push(s("text", { class: "tick", x: frame.width - frame.right + 6, y: y + 9 }, fixed(up, 1, true)), s("text", { class: "tick", x: frame.width - frame.right + 6, y: y + height }, fixed(-down, 1, true)));
  frame.y += height + 10;
}

// What each layer wrote towards the answer, or its opponent, by where it came from.
function writerRows(frame, account, rivals) {
  const told = WRITERS.filter(([key]) => account.some((row) => row[key]));
  const most = Math.max(...account.flatMap((row) => told.map(([key]) => Math.abs(row[key] ?? 0))), 1e-9);
  told.forEach(([key, text], i) => {
    frame.title(i ? text : `written by ${text}`, frame.y + 12);
    for (const row of account) {
      if (row[key] === null || Math.abs(row[key]) < 0.03 * most) continue;
      frame.parts.push(s("rect", { class: `wrote ${row[key] > 0 ? "for" : rivals.opponentKind}`, "fill-opacity": (0.12 + 0.88 * Math.abs(row[key]) / most).toFixed(2), x: frame.px.get(row.layer) - frame.step / 2 + 0.5, width: frame.step - 1, y: frame.y, height: 14 },
        s("title", null, `layer ${row.layer}: ${WRITER_WORDS[key]} wrote ${fixed(row[key], 2, true)} logits of ${visible(rivals.saidText)} over ${visible(rivals.opponentText)}`)));
    }
    frame.y += 16;
  });
  frame.y += 8;
}

function laneOf(lane, frame, { all, strongest, loudest, rivals, promoted }) {
  const { px, labels, width, left, right } = frame, middle = frame.y + LANE / 2;
  const kind = (effect) => kindOfSide(sideOf(effect, strongest), rivals);
  const group = s(labels ? "a" : "g", { class: `lane ${lane.side}`, href: labels ? featureLink(lane.loudest.layer, lane.loudest.latent) : null, "data-track": lane.track, "aria-label": labels ? laneWords(lane, promoted) : null });
  if (labels) group.append(s("rect", { class: "ground", x: 0, y: middle - LANE / 2, width, height: LANE }));
  const thick = (node) => 1.5 + (LANE - 5) * Math.sqrt(node.activation / loudest);
  lane.nodes.forEach((node, j) => {
    const next = lane.nodes[j + 1], words = (each) => `activation ${fixed(each.activation)}, effect ${fixed(each.effect, 3, true)} logits (${SIDE_WORDS[sideOf(each.effect, strongest)]})`;
    if (next) {
      const [a, b] = [px.get(node.layer), px.get(next.layer)], [p, q] = [thick(node) / 2, thick(next) / 2], weight = next.posterior ?? 1;
      group.append(s("path", { class: `bandpiece ${kind(next.effect)}${weight < 0.5 ? " doubtful" : ""}`, "fill-opacity": (0.18 + 0.72 * weight).toFixed(2),
        d: `M${a},${middle - p}L${b},${middle - q}L${b},${middle + q}L${a},${middle + p}Z` },
        s("title", null, `layers ${node.layer}–${next.layer}: link posterior ${fixed(next.posterior)}, decoder cosine ${fixed(next.link)}, ${words(next)}`)));
    } else if (j === 0) {
      group.append(s("circle", { class: `nodepiece ${kind(node.effect)}`, cx: px.get(node.layer), cy: middle, r: Math.max(thick(node) / 2, 2) }, s("title", null, `layer ${node.layer} only: ${words(node)}`)));
    }
  });
  const first = lane.nodes[0], last = lane.nodes.at(-1);
  if (first.layer !== all[0]) group.append(s("circle", { class: "birth", cx: px.get(first.layer), cy: middle, r: labels ? 3.6 : 2.6 }, s("title", null, `born in layer ${first.layer}, posterior ${fixed(first.posterior)}`)));
  if (last.layer !== all.at(-1)) group.append(s("path", { class: "death", d: `M${px.get(last.layer) + 5},${middle - 5}l0,10` }, s("title", null, `ends in layer ${last.layer}`)));
  if (labels) {
    group.append(s("text", { class: "lanelabel", x: left - 8, y: middle + 4, "text-anchor": "end" }, shorten(promoted(lane.loudest.layer, lane.loudest.latent) ?? `latent ${lane.loudest.layer}:${lane.loudest.latent}`, 22)));
    group.append(s("text", { class: "tick", x: width - right + 6, y: middle + 4 }, fixed(lane.peak.effect, 3, true)));
  }
  frame.y += LANE;
  return group;
}

function lensStrip(frame, lens, rivals) {
  const height = frame.labels ? 76 : 20, { y, px, step, labels } = frame;
  frame.title("logit lens reads", y + height / 2 + 4);
  for (const row of lens) {
    const kind = rivals.kindOf(row.top), x = px.get(row.layer);
    frame.parts.push(s("rect", { class: `lens ${kind}`, x: x - step / 2 + 0.5, width: step - 1, y, height, rx: 2 },
      s("title", null, `layer ${row.layer}: of all tokens the lens reads ${visible(rivals.text(row.top))}; the answer given has rank ${row.rank}, log-probability ${fixed(row.logprob)}; entropy ${fixed(row.entropy)} nats`)));
    if (labels) frame.parts.push(s("text", { class: `lenstext ${kind}`, transform: `translate(${x + 3.5} ${y + height - 5}) rotate(-90)` }, shorten(plain(rivals.text(row.top)), 10)));
  }
  frame.y += height + 8;
}

// What the picture shows, for who does not see it.
function pictureWords(lanes, all, account, rivals) {
  const sides = Object.entries(SIDE_WORDS).map(([side, words]) => `${lanes.filter((lane) => lane.side === side).length} ${words}`);
  const lives = lanes.map((lane) => lane.death - lane.birth + 1), mean = lives.reduce((sum, life) => sum + life, 0) / Math.max(lives.length, 1);
  const last = account.at(-1);
  const ending = last ? ` The lead changes ${plural(leadChanges(account).length, "time")}; at the end ${visible(rivals.text(rivals.leader(last.leader)))} leads.` : "";
  return `${plural(lanes.length, "track")} over ${plural(all.length, "layer")}, ${sides.join(", ")}; they live ${fixed(mean, 1)} layers on average.${ending}`;
}

function laneWords(lane, promoted) {
  const words = promoted(lane.loudest.layer, lane.loudest.latent);
  return `track ${lane.track}${words ? `, ${words}` : ""}, ${SIDE_WORDS[lane.side]}, layers ${lane.birth} to ${lane.death}, ` +
    `strongest activation ${fixed(lane.loudest.activation)} in layer ${lane.loudest.layer}, largest effect ${fixed(lane.peak.effect, 3, true)} in layer ${lane.peak.layer}`;
}

function legendOfTrajectory(rivals, account) {
  const mark = (...shapes) => s("svg", { viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" }, shapes);
  const box = (kind) => mark(s("rect", { class: kind, x: 0, y: 2, width: 34, height: 10 }));
  const item = (picture, ...words) => h("li", null, picture, ...words);
  return h("ul", { class: "legend" },
    item(box("for"), "said: ", h("b", null, visible(rivals.saidText))),
    rivals.right !== undefined && item(box("right"), "dotted: right, ", h("b", null, visible(rivals.text(rivals.right)))),
    rivals.rival !== undefined && item(box("against"), "hatched: strongest wrong rival, ", h("b", null, visible(rivals.text(rivals.rival)))),
    account.length > 0 && item(box("other"), "another candidate"),
    account.some((row) => row.total !== null) && PARTS.map(([key, text]) => item(box(`part ${key}`), text)),
    item(mark(s("path", { class: "bandpiece neither", "fill-opacity": 0.8, d: "M0,6L34,1L34,13L0,8Z" })), "a track: width is activation, strength the link posterior (outlined below 0.5), colour whom it speaks for"),
    item(mark(s("circle", { class: "birth", cx: 17, cy: 7, r: 4 })), "born"),
    item(mark(s("path", { class: "death", d: "M17,2l0,10" })), "ends"),
    item(mark(s("line", { class: "lead", x1: 17, x2: 17, y1: 0, y2: 14 })), "the lead changes"));
}

// The tracks as a table, with links to their features.
function trackTable(nodes, promoted) {
  if (!nodes.length) return null;
  const { lanes } = lanesOf(nodes);
  return table(["track", "promotes", "side", "layers", "existence", "largest effect", "latents (layer: latent, activation, link posterior)"],
    lanes.map((lane) => [
      lane.track, promoted(lane.loudest.layer, lane.loudest.latent) ?? "–", SIDE_WORDS[lane.side], `${lane.birth}–${lane.death}`,
      fixed(Math.max(...lane.nodes.map((node) => node.existence ?? 0))), `${fixed(lane.peak.effect, 3, true)} in layer ${lane.peak.layer}`,
      h("span", { class: "chain" }, lane.nodes.map((node, i) => [i ? " → " : "", link_(node), ` ${fixed(node.activation)}${i ? ` (${fixed(node.posterior)})` : ""}`])),
    ]), { caption: "Tracks at this position", numeric: [0, 4, 5] });
}
const link_ = (node) => link(featureLink(node.layer, node.latent), `${node.layer}:${node.latent}`);
