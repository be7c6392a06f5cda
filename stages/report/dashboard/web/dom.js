// Elements, and numbers as text. Text is only ever inserted as text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Made once for each number of digits: to make one takes longer than to use it a hundred times.
const formats = new Map();
function formatOf(digits) {
  if (!formats.has(digits)) formats.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  return formats.get(digits);
}

// As the report's tables have it: `1,234.500`, a real minus sign, a dash for what is not defined.
function fixed(value, digits = 3, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const text = formatOf(digits).format(Math.abs(value));
  return (value < 0 ? "−" : signed ? "+" : "") + text;
}
const share = (value, digits = 1) => (value === null || value === undefined ? "–" : `${fixed(value * 100, digits)}%`);

// A number of one of the run's files with its interval where it has one; the element says where it is from.
function figure(file, pointer, { digits = 3, signed = false, percent = false } = {}) {
  const entry = at(file, pointer);
  const show = (value) => (percent ? share(value, 1) : fixed(value, digits, signed));
  const isFigure = entry !== null && typeof entry === "object";
  const value = isFigure ? entry.value : entry;
  const interval = isFigure && entry.low !== null && entry.low !== undefined ? ` [${show(entry.low)}, ${show(entry.high)}]` : "";
  return h("span", { class: "number", "data-source": `${file}#${pointer}`, "data-digits": percent ? 1 : digits, "data-percent": percent },
    show(value), interval && h("span", { class: "interval" }, interval));
}

// A number with the ends of its interval, each from a place of its own.
function ranged(file, value, low, high, options) {
  const ends = at(file, low) !== null && at(file, high) !== null;
  return [figure(file, value, options), ends && h("span", { class: "interval" }, " [", figure(file, low, options), ", ", figure(file, high, options), "]")];
}

// A table whose rows can be sorted by any column.
function table(head, rows, { caption, numeric = [] } = {}) {
  const cell = (tag, content, i) => h(tag, { class: numeric.includes(i) ? "right" : null, scope: tag === "th" ? "col" : null }, tag === "th" && content && rows.length > 1 ? h("button", { type: "button", class: "sort", onclick: sortRows }, content) : content);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption ?? "Table" },
    h("table", null, caption && h("caption", null, caption),
      h("thead", null, h("tr", null, head.map((content, i) => cell(content === "" ? "td" : "th", content, i)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((content, i) => cell("td", content, i)))))));
}

function sortRows(event) {
  const head = event.target.closest("th"), body = head.closest("table").tBodies[0], column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const number = (text) => Number.parseFloat(text.replaceAll("−", "-").replaceAll(",", ""));
  const order = (a, b) => {
    const [p, q] = [a.cells[column].textContent, b.cells[column].textContent], [m, n] = [number(p), number(q)];
    return Number.isNaN(m) || Number.isNaN(n) ? (Number.isNaN(m) && Number.isNaN(n) ? p.localeCompare(q) : Number.isNaN(m) ? 1 : -1) : m - n;
  };
  body.append(...[...body.rows].sort((a, b) => (down ? -order(a, b) : order(a, b))));
}

// What is not seen at once is made when the rest of the page is on the screen.
const pending = [];
function later(make) {
  const place = h("div");
  pending.push(() => place.replaceWith(...[make()].flat().filter(Boolean)));
  return place;
}

const section = (title, ...children) => h("section", null, h("h2", null, title), ...children);
const note = (...children) => h("p", { class: "note" }, ...children);
const link = (target, ...children) => h("a", { href: target }, ...children);
const folded = (title, ...children) => h("details", null, h("summary", null, title), ...children.map((child) => (typeof child === "function" ? later(child) : child)));

const questionLink = (id, position, kept = "") => {
  const query = [position === undefined ? "" : `position=${position}`, kept].filter(Boolean).join("&");
  return `#/question/${encodeURIComponent(id)}${query ? `?${query}` : ""}`;
};
const latentLink = (layer, latent) => `#/latent/${layer}/${latent}`;

// A token as it can be seen: spaces and line ends have signs.
const visible = (token) => (token === null || token === undefined ? "?" : token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "∅");
const plain = (token) => (token ?? "?").trim() || visible(token);

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 90) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 5400) return `${(value / 60).toFixed(1)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

function bytes(value) {
  if (!value) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(Math.floor(Math.log10(value) / 3), units.length - 1);
  return `${(value / 1000 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

const plural = (count, word) => `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : "s"}`;
