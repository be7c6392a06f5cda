// A list that is searched, filtered, sorted by its headers and drawn some rows at a time; what it is narrowed to stands in the address.

const PAGE = 60;

// The state that an address asks for: defaults where it says nothing.
const stateOf = (query, defaults) => Object.fromEntries(Object.entries(defaults).map(([key, value]) => [key, query.get(key) ?? value]));
const stateWords = (state, defaults) => new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== defaults[key])).toString();

// Rows that hold every word, by an order of `orders`, "-" before its name for the other way round.
function narrowed(rows, { find, order }, orders, keep) {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean), sign = order.startsWith("-") ? -1 : 1, by = orders[order.replace(/^-/, "")] ?? (() => 0);
  return rows.filter((row) => keep(row) && words.every((word) => row.search.includes(word))).sort((a, b) => sign * by(a, b) || a.number - b.number);
}

// choices: [[key of the state, name, [[value, text]]]]; heads: [[order or null, text, whether right-aligned]]; select(): the rows;
// cells(row, kept): their contents; told(rows): what is said of them.
function listing({ title, page, defaults, state, hint, choices, heads, select, cells, told, notes }) {
  const count = h("p", { role: "status", class: "note", id: "found" }), body = h("tbody"), more = h("button", { type: "button", class: "more", onclick: () => draw() }, "Show more");
  let shown = [], drawn = 0, kept = "", waiting;
  const draw = (some = PAGE) => {
    body.append(...shown.slice(drawn, drawn + some).map((row) => h("tr", null, cells(row, kept).map((content, i) => h("td", { class: heads[i][2] ? "right" : null }, content)))));
    drawn = Math.min(drawn + some, shown.length);
    more.hidden = drawn >= shown.length;
    remember({ rows: drawn });
  };
  const update = (rows = PAGE) => {
    shown = select();
    kept = stateWords(state, defaults);
    history.replaceState(history.state, "", `#/${page}${kept ? `?${kept}` : ""}`);
    body.replaceChildren();
    drawn = 0;
    draw(rows);
    count.textContent = told(shown);
    for (const head of sorting) head.setAttribute("aria-sort", { [head.dataset.order]: "ascending", [`-${head.dataset.order}`]: "descending" }[state.order] ?? "none");
    for (const [key] of choices) form.elements[key].value = state[key];
  };
  const sorting = heads.map(([order, name, right]) => h("th", { scope: "col", class: right ? "right" : null, "data-order": order },
    h("button", { type: "button", class: "sort", onclick: () => { state.order = state.order === order ? `-${order}` : order; update(); } }, name)));
  const form = h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "find" }, "Find ", h("input", { id: "find", type: "search", value: state.find, placeholder: hint, oninput: (event) => { clearTimeout(waiting); state.find = event.target.value; waiting = setTimeout(update, 80); } })),
    choices.map(([key, name, options]) => h("label", null, `${name} `, h("select", { name: key, onchange: (event) => { state[key] = event.target.value; update(); } }, options.map(([value, text]) => h("option", { value }, text))))));
  update(Math.max(PAGE, remembered().rows ?? 0));
  return section(title, form, count, notes, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, h("table", { class: page }, h("thead", null, h("tr", null, sorting)), body)), more);
}
