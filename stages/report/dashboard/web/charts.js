// Charts as SVG. Colours come from classes, so that light and dark are a matter of style; series also differ by dash.

const COLOURS = ["c0", "c1", "c2", "c3", "c4", "c5"];
const DASHES = [null, "7 4", "2 3", "9 3 2 3", "12 4", "4 4"];

const ticksOf = (low, high, count = 5) => {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((candidate) => candidate >= raw) ?? power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) ticks.push(i * step);
  return ticks;
};
const tickText = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en-US") : String(Number(value.toPrecision(6)))).replace("-", "−");

// series: {name, points: [[x, y]], low, high (arrays of y), marks}. The box is in CSS pixels at full width.
function lineChart({ title, series, x, y, xLabel, yLabel, width = 520, height = 330, diagonal, marks = [], xTick = tickText, legend = true }) {
  const left = 58, right = 14, top = 16, bottom = 48;
  const xs = x ?? extent(series.flatMap((each) => each.points.map((p) => p[0])));
  const ys = y ?? extent(series.flatMap((each) => [...each.points.map((p) => p[1]), ...(each.low ?? []), ...(each.high ?? [])]));
  const px = (value) => left + ((value - xs[0]) / (xs[1] - xs[0] || 1)) * (width - left - right);
  const py = (value) => height - bottom - ((value - ys[0]) / (ys[1] - ys[0] || 1)) * (height - top - bottom);
  const path = (points) => points.filter((p) => p[1] !== null).map((p, i) => `${i ? "L" : "M"}${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join("");
  const picture = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${series.map((each) => each.name).join("; ")}` },
    ticksOf(...ys).map((tick) => [
      s("line", { class: "grid", x1: left, x2: width - right, y1: py(tick), y2: py(tick) }),
      s("text", { class: "tick", x: left - 7, y: py(tick) + 4, "text-anchor": "end" }, tickText(tick)),
    ]),
    ticksOf(...xs).map((tick) => s("text", { class: "tick", x: px(tick), y: height - bottom + 18, "text-anchor": "middle" }, xTick(tick))),
    s("line", { class: "axis", x1: left, x2: width - right, y1: py(ys[0]), y2: py(ys[0]) }),
    s("text", { class: "label", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xLabel),
    s("text", { class: "label", transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel),
    diagonal && s("line", { class: "guide", x1: px(xs[0]), y1: py(diagonal[0]), x2: px(xs[1]), y2: py(diagonal[1]) }),
    marks.map((mark) => [
      s("line", { class: "guide", x1: left, x2: width - right, y1: py(mark.y), y2: py(mark.y) }),
      s("text", { class: "tick", x: width - right, y: py(mark.y) - 5, "text-anchor": "end" }, mark.text),
    ]),
    series.map((each, i) => each.low && s("path", {
      class: `band ${COLOURS[i % 6]}`,
      d: path([...each.points.map((p, j) => [p[0], each.low[j]]), ...each.points.map((p, j) => [p[0], each.high[j]]).reverse()]) + "Z",
    })),
    series.map((each, i) => s("path", { class: `line ${COLOURS[i % 6]}`, d: path(each.points), "stroke-dasharray": DASHES[i % 6] }, s("title", null, each.name))),
    series.map((each, i) => each.dots && each.points.filter((p) => p[1] !== null).map((p) =>
      s("circle", { class: `dot ${COLOURS[i % 6]}`, cx: px(p[0]), cy: py(p[1]), r: 4 }, s("title", null, `${each.name}: ${xTick(p[0])}, ${tickText(Number(p[1].toFixed(4)))}`)))));
  return h("figure", { class: "chart" }, h("figcaption", null, title), picture, legend && series.length > 1 && legendOf(series.map((each) => each.name)));
}

function legendOf(names) {
  return h("ul", { class: "legend" }, names.map((name, i) => h("li", null,
    s("svg", { viewBox: "0 0 30 10", width: 30, height: 10, "aria-hidden": "true" }, s("line", { class: `line ${COLOURS[i % 6]}`, x1: 1, x2: 29, y1: 5, y2: 5, "stroke-dasharray": DASHES[i % 6] })), name)));
}

function extent(values) {
  const known = values.filter((value) => value !== null && value !== undefined && Number.isFinite(value));
  if (!known.length) return [0, 1];
  const low = Math.min(...known), high = Math.max(...known);
  // Values that differ by less than a hundredth are drawn as the level line that they are.
  const room = Math.max((high - low) * 0.06, Math.abs(high) * 0.01) || 0.06;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

// rows: {name, kind, values: [{value, low, high, fill}]}: a line a row, a mark and an interval for each value.
function forest({ title, rows, guide, xLabel, width = 900 }) {
  const left = 372, right = 16, step = 30, top = 8, bottom = 44, height = top + bottom + step * rows.length;
  const all = rows.flatMap((row) => row.values).filter((each) => each && each.value !== null);
  const [low, high] = extent([...all.flatMap((each) => [each.value, each.low ?? each.value, each.high ?? each.value]), ...(guide ?? []).map((each) => each.x)]);
  const px = (value) => left + ((value - low) / (high - low || 1)) * (width - left - right);
  return h("figure", { class: "chart wide" }, h("figcaption", null, title),
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. The table after it has the numbers.` },
      ticksOf(low, high).map((tick) => [
        s("line", { class: "grid", x1: px(tick), x2: px(tick), y1: top, y2: height - bottom }),
        s("text", { class: "tick", x: px(tick), y: height - bottom + 17, "text-anchor": "middle" }, tickText(tick)),
      ]),
      (guide ?? []).map((each) => s("line", { class: "guide", x1: px(each.x), x2: px(each.x), y1: top, y2: height - bottom }, s("title", null, each.text))),
      s("text", { class: "label", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xLabel),
      rows.map((row, i) => {
        const middle = top + step * (i + 0.5);
        return [
          s("text", { class: "label", x: left - 10, y: middle + 4, "text-anchor": "end" }, shorten(row.name, 54)),
          row.values.map((each, j) => {
            if (!each || each.value === null) return null;
            const where = middle + (j - (row.values.length - 1) / 2) * 11;
            return s("g", { class: row.kind },
              each.low !== null && s("line", { class: "whisker", x1: px(each.low), x2: px(each.high), y1: where, y2: where }),
              s("circle", { class: j ? "hollow" : "full", cx: px(each.value), cy: where, r: 4.5 }, s("title", null, `${row.name}: ${fixed(each.value)}`)));
          }),
        ];
      })));
}

const shorten = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// Bars over numbered places, such as a histogram. values: [n]; edges: [n + 1] or labels [n].
function bars({ title, values, label, xLabel, yLabel, width = 420, height = 230 }) {
  const left = 54, right = 10, top = 12, bottom = 46, high = Math.max(...values, 1e-12);
  const step = (width - left - right) / values.length;
  return h("figure", { class: "chart" }, h("figcaption", null, title),
    s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. The table after it has the numbers.` },
      ticksOf(0, high, 4).map((tick) => [
        s("line", { class: "grid", x1: left, x2: width - right, y1: height - bottom - (tick / high) * (height - top - bottom), y2: height - bottom - (tick / high) * (height - top - bottom) }),
        s("text", { class: "tick", x: left - 6, y: height - bottom - (tick / high) * (height - top - bottom) + 4, "text-anchor": "end" }, tickText(tick)),
      ]),
      values.map((value, i) => s("rect", { class: "bar", x: left + i * step + 0.5, width: Math.max(step - 1, 0.5), y: height - bottom - (value / high) * (height - top - bottom), height: (value / high) * (height - top - bottom) }, s("title", null, `${label(i)}: ${tickText(value)}`))),
      values.map((_, i) => (i % Math.ceil(values.length / 6) === 0) && s("text", { class: "tick", x: left + i * step, y: height - bottom + 17, "text-anchor": "middle" }, label(i))),
      s("text", { class: "label", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, xLabel),
      s("text", { class: "label", transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel)),
    folded(`${title} as a table`, table([`${xLabel}, from`, yLabel], values.map((value, i) => [label(i), fixed(value, 0)]), { caption: title, numeric: [0, 1] })));
}
