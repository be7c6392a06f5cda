// Charts, drawn by Observable Plot. It is a block of the page, run when a page with a chart is first shown. Colours are variables of
// the style sheet, so that light and dark are a matter of style; series also differ by dash.

let library;
const charting = () => (library ??= block("charting").then(({ data }) => {
  for (const text of data.scripts) document.head.append(h("script", null, text));
  return data.notice;
}));

const DASHES = ["none", "7 4", "2 3", "9 3 2 3", "12 4", "4 4"];
const PATTERNS = { against: "url(#hatch)", right: "url(#dots)", sae_error: "url(#cross)" };
const ink = (kind) => PATTERNS[kind] ?? `var(--${kind})`;
const mark = (...shapes) => s("svg", { viewBox: "0 0 34 14", width: 34, height: 14, "aria-hidden": "true" }, shapes);
const swatch = (kind) => mark(s("rect", { fill: ink(kind), y: 2, width: 34, height: 10 }));
const GUIDE = { stroke: "var(--soft)", strokeDasharray: "2 4" };
const axis = (label, more) => ({ label, labelAnchor: "center", labelArrow: "none", ticks: 5, ...more });

// What Plot calls its parts ("bar") says nothing: the whole picture has a name, and its numbers stand in a table.
function plot({ marks, ...options }) {
  const picture = Plot.plot({ className: "plot", marks: marks.flat(Infinity).filter(Boolean), ...options });
  for (const part of picture.children) part.setAttribute("aria-hidden", "true");
  return picture;
}

// A figure of Plot's own options. most: its width in CSS pixels, where there is room for it; fit(width): options that follow from
// it; words: what a screen reader says of it.
function chart({ title, words = "The table after it has the numbers.", most = 520, below, fit, ...options }) {
  const picture = fitted(() => {
    const width = widthOf(most), drawn = plot({ width, marginTop: 16, marginLeft: 62, marginBottom: 44, ariaLabel: `${title}. ${words}`, ...options, ...fit?.(width) });
    drawn.setAttribute("role", "img");
    drawn.querySelector("style").remove(); // the page's own has all that it says
    return drawn;
  });
  return h("figure", { class: most > 600 ? "chart wide" : "chart" }, h("figcaption", null, title), picture, below);
}

const widthOf = (most) => Math.min(most, document.getElementById("content").clientWidth - 45);

// Pictures that are as wide as their place, each with what draws it again when the window has another width.
const drawing = new WeakMap();
function fitted(draw) {
  const picture = draw();
  drawing.set(picture, draw);
  return picture;
}

function refit() {
  for (const picture of document.querySelectorAll("#content svg")) if (drawing.has(picture)) picture.replaceWith(fitted(drawing.get(picture)));
  offerSaving();
}

// The ends of an axis with room about the values. Those that differ by less than a hundredth are drawn as the level line that they are.
function roomy(values) {
  const [low = 0, high = 1] = d3.extent(values), room = Math.max((high - low) * 0.06, Math.abs(high) * 0.01) || 0.06;
  return [low >= 0 ? Math.max(low - room, 0) : low - room, high + room];
}

// series: {name, points: [[x, y]], low, high (arrays of y), dots}; diagonal: heights at the ends of x; marks: {y, text}.
function lineChart({ title, series, x, y, xLabel, yLabel, diagonal, marks = [], xTick }) {
  const rows = series.map(({ name, points, low, high }) => points.map(([x, y], i) => ({ x, y, low: low?.[i], high: high?.[i], name }))), all = rows.flat();
  const ends = x ?? roomy(all.map((row) => row.x)), heights = y ?? roomy(all.flatMap((row) => [row.y, row.low, row.high]));
  const words = (row) => `${row.name}\n${xLabel} ${xTick ? xTick(row.x) : fixed(row.x, Number.isInteger(row.x) ? 0 : 3)}, ${yLabel} ${fixed(row.y)}${(row.low ?? null) === null ? "" : ` [${fixed(row.low)}, ${fixed(row.high)}]`}`;
  return chart({ title, words: series.map((each) => each.name).join("; "), height: 330, x: axis(xLabel, { domain: ends, tickFormat: xTick }), y: axis(yLabel, { domain: heights, grid: true }),
    marks: [
      diagonal && Plot.line([[ends[0], diagonal[0]], [ends[1], diagonal[1]]], GUIDE),
      Plot.ruleY(marks, { y: "y", ...GUIDE }), Plot.text(marks, { y: "y", text: "text", frameAnchor: "left", textAnchor: "start", dx: 4, dy: -7 }),
      rows.map((some, i) => [
        series[i].low && Plot.areaY(some, { x: "x", y1: "low", y2: "high", fill: `var(--c${i})`, fillOpacity: 0.17 }),
        Plot.line(some, { x: "x", y: "y", stroke: `var(--c${i})`, strokeWidth: 2.2, strokeDasharray: DASHES[i] }),
        series[i].dots && Plot.dot(some, { x: "x", y: "y", r: 4, stroke: `var(--c${i})`, strokeWidth: 2, fill: "var(--ground)" })]),
      Plot.tip(all, Plot.pointer({ x: "x", y: "y", title: words, ariaHidden: "true" }))],
    below: series.length > 1 && h("ul", { class: "legend" }, series.map(({ name }, i) => h("li", null,
      mark(s("line", { stroke: `var(--c${i})`, "stroke-width": 2.2, x1: 1, x2: 33, y1: 7, y2: 7, "stroke-dasharray": DASHES[i] })), name))) });
}

// rows: {name, kind, values: [{value, low, high}]}: a line a row, a mark and an interval for each value, the second one hollow.
function forest({ title, rows, guide = [], xLabel }) {
  const each = rows.flatMap(({ name, kind, values }, y) => values.map((value, j) => ({ ...value, y, j, name, stroke: ink(kind === "detector" ? "c0" : "soft") }))).filter((row) => (row.value ?? null) !== null);
  const leftOf = (width) => Math.min(d3.max(rows, (row) => 7 * row.name.length + 16), width * 0.42);
  return chart({ title, most: 900, height: 30 * rows.length + 60, x: axis(xLabel, { grid: true, domain: roomy([...each.flatMap((row) => [row.value, row.low, row.high]), ...guide.map(({ x }) => x)]) }),
    y: { domain: d3.range(rows.length) },
    fit: (width) => ({ marginLeft: leftOf(width), marks: [
      Plot.axisY({ label: null, tickSize: 0, lineWidth: (leftOf(width) - 12) / 13, tickFormat: (y) => shorten(rows[y].name, Math.floor((leftOf(width) - 12) / 4.4)) }), // two lines at most
      Plot.ruleX(guide, { x: "x", title: "text", ...GUIDE }),
      [-5.5, 5.5].map((dy, j) => [each.filter((row) => row.j === j)].map((some) => [
        Plot.ruleY(some, { y: "y", x1: "low", x2: "high", dy, stroke: "stroke", strokeWidth: 2.2 }),
        Plot.dot(some, { y: "y", x: "value", dy, r: 4.5, stroke: "stroke", strokeWidth: 2, fill: j ? "var(--ground)" : "stroke", title: (row) => `${row.name}: ${fixed(row.value)} [${fixed(row.low)}, ${fixed(row.high)}]` })]))] }) });
}

const shorten = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// A histogram with its table. values: [n]; label(i): where the i-th bar begins.
function bars({ title, values, label, xLabel, yLabel }) {
  return chart({ title, height: 260, fit: (width) => ({ x: axis(xLabel, { ticks: d3.range(0, values.length, Math.ceil(values.length / Math.floor(width / 80))), tickFormat: (i) => label(i) }) }), y: axis(yLabel, { grid: true, ticks: 4, nice: true }),
    marks: [Plot.rectY(values, { x1: (_, i) => i, x2: (_, i) => i + 1, y: (value) => value, insetLeft: 0.5, insetRight: 0.5, fill: "var(--c0)", title: (value, i) => `${label(i)}: ${fixed(value, 0)}`, tip: { pointer: "x", ariaHidden: "true" } }), Plot.ruleY([0])],
    below: folded(`${title} as a table`, table([`${xLabel}, from`, yLabel], values.map((value, i) => [label(i), fixed(value, 0)]), { caption: title, numeric: [0, 1] })) });
}
