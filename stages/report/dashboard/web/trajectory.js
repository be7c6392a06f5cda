// The trajectory of one position: tracks as lanes over the layers, the competition of answers above, the logit lens below.

const LANE = 21;

// What competes at a position: the token the model emits next, and its strongest rival.
function contestants(record, cells, cell, tokens) {
  const own = cell.candidates(), list = own.length ? own : cells.find((each) => each.position === 0)?.candidates() ?? [];
  const emitted = record.token_ids?.[Math.max(cell.position, 0)] ?? list[0]?.token; // greedy: the end is the likeliest too
  const rival = list.find((candidate) => candidate.token !== emitted)?.token;
  const name = (token, fallback) => (token === undefined ? fallback : tokens[token] ?? fallback);
  const spoken = record.tokens?.[Math.max(cell.position, 0)];
  return { emitted, rival, list, emittedText: spoken ?? name(emitted, "the answer"), rivalText: name(rival, "its strongest rival"), text: (token) => tokens[token] ?? `token ${token}` };
}

// Nodes in the order of lanes: those for the emitted answer first, then those that do not matter to it, then those against.
function lanesOf(nodes, trackColumn, linkColumn) {
  const lanes = new Map();
  for (const node of nodes) {
    if (!lanes.has(node.place)) lanes.set(node.place, { track: node[trackColumn], nodes: [] });
    lanes.get(node.place).nodes.push({ ...node, link: node[linkColumn] });
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

// Layers at which the leading candidate is another one than a layer before.
function leadChanges(layers) {
  const changes = [];
  for (let i = 1; i < layers.length; i++) {
    if (layers[i].leader !== layers[i - 1].leader) changes.push({ layer: layers[i].layer, from: layers[i - 1].leader, to: layers[i].leader });
  }
  return changes;
}

// options: {nodes, layers, lens, rivals, promoted(layer, latent), width, labels, track, link, name}
function trajectory({ nodes, layers, lens, rivals, promoted, width, name, track = "track", link = "link", labels = true, noAssociation = false }) {
  const all = [...new Set([...layers, ...lens, ...nodes].map((row) => row.layer))].sort((a, b) => a - b);
  const { lanes, strongest, loudest } = nodes.length ? lanesOf(nodes, track, link) : { lanes: [], strongest: 1, loudest: 1 };
  const left = labels ? 176 : 58, right = labels ? 74 : 14;
  const step = (width - left - right) / Math.max(all.length, 1);
  const px = new Map(all.map((layer, i) => [layer, left + step * (i + 0.5)]));
  const parts = [];
  let y = 8;

  const axis = (where) => all.map((layer, i) => i % Math.ceil(all.length / (width / 36)) === 0 &&
    s("text", { class: "tick", x: px.get(layer), y: where, "text-anchor": "middle" }, layer));
  const title = (text, where) => s("text", { class: "label", x: left - 8, y: where, "text-anchor": "end" }, text);

  if (layers.length) {
    const height = labels ? 66 : 48, middle = y + height / 2;
    const most = Math.max(...layers.map((row) => Math.abs(row.margin ?? 0)), 1e-9);
    parts.push(title(labels ? "competition" : "comp.", middle + 4));
    parts.push(s("line", { class: "axis", x1: left, x2: width - right, y1: middle, y2: middle }));
    for (const row of layers) {
      if (row.margin === null) continue;
      const size = (Math.abs(row.margin) / most) * (height / 2 - 3);
      parts.push(s("rect", { class: row.margin >= 0 ? "for" : "against", x: px.get(row.layer) - step * 0.36, width: step * 0.72, y: row.margin >= 0 ? middle - size : middle, height: Math.max(size, 0.6) },
        s("title", null, `layer ${row.layer}: the tracks put ${visible(rivals.text(rivals.list[row.leader]?.token))} first; the answer given over its strongest rival ${fixed(row.margin, 3, true)}; ${row.n_active} tracks, ${row.births} born, ${row.deaths} ended`)));
    }
    if (labels) parts.push(s("text", { class: "tick", x: width - right + 6, y: y + 12 }, `+${fixed(most)}`), s("text", { class: "tick", x: width - right + 6, y: y + height }, `−${fixed(most)}`));
    y += height + 6;
  }
  const top = y;
  if (layers.length && rivals.list.length) {
    parts.push(title(labels ? "tracks lean to" : "lead", y + 13));
    for (const row of layers) {
      const token = rivals.list[row.leader]?.token;
      parts.push(s("rect", { class: token === rivals.emitted ? "for" : token === rivals.rival ? "against" : "other", x: px.get(row.layer) - step / 2 + 0.5, width: step - 1, y, height: 18, rx: 2 },
        s("title", null, `layer ${row.layer}: ${visible(rivals.text(token))} leads`)));
    }
    y += 24;
  }
  const laneTop = y;
  lanes.forEach((lane, i) => {
    const middle = y + LANE * (i + 0.5);
    const group = s("g", { class: `lane ${lane.side}`, tabindex: labels ? 0 : null, role: labels ? "img" : null, "data-track": lane.track,
      "aria-label": labels ? laneWords(lane, promoted) : null });
    if (labels) group.append(s("rect", { class: "ground", x: 0, y: middle - LANE / 2, width, height: LANE }));
    lane.nodes.forEach((node, j) => {
      const thick = (n) => 1.5 + (LANE - 5) * Math.sqrt(n.activation / loudest);
      const next = lane.nodes[j + 1];
      if (next) {
        const [a, b] = [px.get(node.layer), px.get(next.layer)], [p, q] = [thick(node) / 2, thick(next) / 2];
        const weight = next.posterior ?? 1;
        group.append(s("path", { class: `bandpiece ${sideOf(next.effect, strongest)}${weight < 0.5 ? " doubtful" : ""}`, "fill-opacity": noAssociation ? 0.55 : (0.18 + 0.72 * weight).toFixed(2),
          d: `M${a},${middle - p}L${b},${middle - q}L${b},${middle + q}L${a},${middle + p}Z` },
          s("title", null, `layers ${node.layer}–${next.layer}: ${next.posterior === undefined ? "" : `link posterior ${fixed(next.posterior)}, `}decoder cosine ${fixed(next.link)}, activation ${fixed(next.activation)}, effect ${fixed(next.effect, 3, true)} (${SIDE_WORDS[sideOf(next.effect, strongest)]})`)));
      } else if (j === 0) {
        group.append(s("circle", { class: `nodepiece ${sideOf(node.effect, strongest)}`, cx: px.get(node.layer), cy: middle, r: Math.max(thick(node) / 2, 2) },
          s("title", null, `layer ${node.layer} only: activation ${fixed(node.activation)}, effect ${fixed(node.effect, 3, true)} (${SIDE_WORDS[sideOf(node.effect, strongest)]})`)));
      }
    });
    const first = lane.nodes[0], last = lane.nodes.at(-1);
    if (first.layer !== all[0]) group.append(s("circle", { class: "birth", cx: px.get(first.layer), cy: middle, r: labels ? 3.6 : 2.6 }, s("title", null, `born in layer ${first.layer}${first.posterior === undefined ? "" : `, posterior ${fixed(first.posterior)}`}`)));
    if (last.layer !== all.at(-1)) group.append(s("path", { class: "death", d: `M${px.get(last.layer) + 5},${middle - 5}l0,10` }, s("title", null, `ends in layer ${last.layer}`)));
    if (labels) {
      group.append(s("text", { class: "lanelabel", x: left - 8, y: middle + 4, "text-anchor": "end" }, shorten(promoted(lane.loudest.layer, lane.loudest.latent) ?? `latent ${lane.loudest.latent}`, 22)));
      group.append(s("text", { class: "tick", x: width - right + 6, y: middle + 4 }, fixed(lane.peak.effect, 3, true)));
    }
    parts.push(group);
  });
  y += LANE * lanes.length + 4;
  if (!lanes.length) { parts.push(s("text", { class: "label", x: left, y: y + 14 }, "no tracks here")); y += 22; }
  for (const change of leadChanges(layers)) {
    const x = px.get(change.layer) - step / 2;
    parts.push(s("line", { class: "lead", x1: x, x2: x, y1: top - 4, y2: y }, s("title", null, `layer ${change.layer}: the lead changes from ${visible(rivals.text(rivals.list[change.from]?.token))} to ${visible(rivals.text(rivals.list[change.to]?.token))}`)));
  }
  parts.push(axis(y + 14));
  parts.push(title("layer", y + 14));
  y += 26;
  if (lens.length) {
    const height = labels ? 76 : 20;
    parts.push(title(labels ? "logit lens" : "lens", y + height / 2 + 4));
    for (const row of lens) {
      const kind = row.top === rivals.emitted ? "for" : row.top === rivals.rival ? "against" : "other";
      const x = px.get(row.layer);
      parts.push(s("rect", { class: `lens ${kind}`, x: x - step / 2 + 0.5, width: step - 1, y, height, rx: 2 },
        s("title", null, `layer ${row.layer}: the lens reads ${visible(rivals.text(row.top))}; the answer given has rank ${row.rank}, log-probability ${fixed(row.logprob)}, its strongest rival ${fixed(row.rival_logprob)}; entropy ${fixed(row.entropy)}`)));
      if (labels) parts.push(s("text", { class: `lenstext ${kind}`, transform: `translate(${x + 3.5} ${y + height - 5}) rotate(-90)` }, shorten(plain(rivals.text(row.top)), 10)));
    }
    y += height + 8;
  }
  if (lens.length && labels) y = lensCurves(parts, lens, px, y, left, width - right, title, rivals);
  return s("svg", { viewBox: `0 0 ${width} ${y}`, role: labels ? "group" : "img", class: labels ? "trajectory" : "trajectory small", "aria-label": `${name}: ${pictureWords(lanes, all, layers)}` }, parts);
}

// What the picture shows, for who does not see it.
function pictureWords(lanes, all, layers) {
  const sides = Object.entries(SIDE_WORDS).map(([side, words]) => `${lanes.filter((lane) => lane.side === side).length} ${words}`);
  const lives = lanes.map((lane) => lane.death - lane.birth + 1), mean = lives.reduce((sum, life) => sum + life, 0) / Math.max(lives.length, 1);
  const changes = layers.length ? ` The lead changes ${plural(leadChanges(layers).length, "time")}.` : "";
  return `${plural(lanes.length, "track")} over ${plural(all.length, "layer")}, ${sides.join(", ")}; they live ${fixed(mean, 1)} layers on average.${changes}`;
}

function lensCurves(parts, lens, px, y, left, right, title, rivals) {
  const height = 70;
  const values = lens.flatMap((row) => [row.logprob, row.rival_logprob]).filter((value) => value !== null);
  const low = Math.min(...values, -1), py = (value) => y + (value / low) * height;
  parts.push(title("log-probability", y + height / 2 + 4));
  for (const tick of ticksOf(low, 0, 3)) parts.push(s("line", { class: "grid", x1: left, x2: right, y1: py(tick), y2: py(tick) }), s("text", { class: "tick", x: right + 6, y: py(tick) + 4 }, tickText(tick)));
  for (const [column, kind, dash] of [["rival_logprob", "against", "6 3"], ["logprob", "for", null]]) {
    const points = lens.filter((row) => row[column] !== null).map((row, i) => `${i ? "L" : "M"}${px.get(row.layer)},${py(row[column]).toFixed(1)}`).join("");
    parts.push(s("path", { class: `curve ${kind}`, d: points, "stroke-dasharray": dash }, s("title", null, kind === "for" ? visible(rivals.emittedText) : visible(rivals.rivalText))));
  }
  return y + height + 10;
}

function laneWords(lane, promoted) {
  const words = promoted(lane.loudest.layer, lane.loudest.latent);
  return `track ${lane.track}${words ? `, promotes ${words}` : ""}, ${SIDE_WORDS[lane.side]}, layers ${lane.birth} to ${lane.death}, ` +
    `strongest activation ${fixed(lane.loudest.activation)} in layer ${lane.loudest.layer}, largest effect ${fixed(lane.peak.effect, 3, true)} in layer ${lane.peak.layer}`;
}

function legendOfTrajectory(rivals) {
  const mark = (...shapes) => s("svg", { viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" }, shapes);
  const item = (picture, ...words) => h("li", null, picture, ...words);
  return h("ul", { class: "legend" },
    item(mark(s("rect", { class: "for", x: 0, y: 2, width: 34, height: 10 })), "for the answer given, ", h("b", null, visible(rivals.emittedText))),
    item(mark(s("rect", { class: "against", x: 0, y: 2, width: 34, height: 10 })), "hatched: for its strongest rival, ", h("b", null, visible(rivals.rivalText))),
    item(mark(s("rect", { class: "neither", x: 0, y: 2, width: 34, height: 10 })), "for neither; in the strips: another token"),
    item(mark(s("path", { class: "bandpiece neither", "fill-opacity": 0.8, d: "M0,6L34,1L34,13L0,8Z" })), "width: activation; strength: link posterior, outlined below 0.5"),
    item(mark(s("circle", { class: "birth", cx: 17, cy: 7, r: 4 })), "born"),
    item(mark(s("path", { class: "death", d: "M17,2l0,10" })), "ends"),
    item(mark(s("line", { class: "lead", x1: 17, x2: 17, y1: 0, y2: 14 })), "the lead changes"));
}

// The tracks as a table, with links to their features.
function trackTable(nodes, promoted) {
  if (!nodes.length) return null;
  const { lanes } = lanesOf(nodes, "track", "link");
  return table(["track", "promotes", "side", "layers", "existence", "largest effect", "latents (layer: latent, activation, link posterior)"],
    lanes.map((lane) => [
      lane.track, promoted(lane.loudest.layer, lane.loudest.latent) ?? "–", SIDE_WORDS[lane.side], `${lane.birth}–${lane.death}`,
      fixed(Math.max(...lane.nodes.map((node) => node.existence ?? 0))), `${fixed(lane.peak.effect, 3, true)} in layer ${lane.peak.layer}`,
      h("span", { class: "chain" }, lane.nodes.map((node, i) => [i ? " → " : "", link_(node), ` ${fixed(node.activation)}${i ? ` (${fixed(node.posterior)})` : ""}`])),
    ]), { caption: "Tracks at this position", numeric: [0, 4, 5] });
}
const link_ = (node) => link(featureLink(node.layer, node.latent), `${node.layer}:${node.latent}`);
