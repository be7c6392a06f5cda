// The page of a latent: what it answers to, what it promotes, and where its tracks come from and go to.

async function latentPage(layer, latent) {
  const here = location.hash;
  const [found, list] = await Promise.all([latentAt(layer, latent), questions()]);
  const title = `Latent ${latent} of layer ${layer}`;
  if (!found) return [section(title, note("This latent is in none of the tracks that this page has."), h("p", null, link("#/questions", "Questions")))];
  const index = await latents();
  const promotes = (l, f) => { const place = index.place.get(`${l}/${f}`); return place === undefined ? "" : (index.promoted[place] ?? []).map(visible).join(" "); };
  const neighbours = (rows, words) => rows?.length
    ? table(["latent", "promotes", "tracks", "decoder cosine", "mean link posterior"], rows.map(([l, f, count, cosine, posterior]) => [link(latentLink(l, f), `layer ${l}, ${f}`), promotes(l, f), fixed(count, 0), fixed(cosine), fixed(posterior)]), { caption: words, numeric: [2, 3, 4] })
    : note("none");
  if (!found.from && !found.contexts) // named by another latent, and on no track that is drawn
    return [section(title, ...heading(found), note("None of the tracks that this file draws goes through it, so that is all that the file has of it."))];
  const context = ([activation, , before, token, after, lengths, heat]) => h("li", null, h("span", { class: "activation" }, fixed(activation)), h("span", { class: "text" }, heated(before, token, after, lengths, heat)));
  const top = (found.contexts ?? []).slice(0, Math.ceil((found.contexts ?? []).length / 2)), rest = (found.contexts ?? []).slice(top.length);
  if (found.counting) setTimeout(() => location.hash === here && show(), 2000);
  return [
    section(title, ...heading(found), found.counting && note("What all tracks say of it is being counted: neighbours and answers follow in a moment.")),
    section("Where it is most active in the corpus", top.length ? h("ol", { class: "contexts" }, top.map(context)) : note("This page has no contexts of it."), note("Shade: its activation on each token, up to the strongest of these. The marked token is the one that the number is of.")),
    rest.length > 0 && section("At all strengths", h("ol", { class: "contexts" }, rest.map((each) => h("div", null, h("span", { class: "note" }, `quantile ${share(each[1], 0)}`), context(each))).map((each) => [...each.children]).map(([words, item]) => { item.prepend(words); return item; }))),
    found.histogram && section("How strongly it is active", bars({ title: "Its activations", values: found.histogram, label: (k) => fixed((k * found.max_activation) / found.histogram.length, 2), xLabel: "activation", yLabel: "tokens of the corpus" })),
    section("Neighbours", h("h3", null, "Its tracks come from"), neighbours(found.from, "Latents before it"), h("h3", null, "Its tracks go on to"), neighbours(found.to, "Latents after it")),
    section("Answers that it took part in", found.parts && note(`On a track in ${fixed(found.parts[0], 0)} wrong answers (${share(found.parts[0] / found.parts[2])} of them) and ${fixed(found.parts[1], 0)} right ones (${share(found.parts[1] / found.parts[3])}). Those in which it is most active:`), found.examples?.length
      ? table(["question", "answer", "", "position", "activation"], found.examples.map(([id, position, activation]) => {
          const question = list.byId.get(id);
          return [link(questionLink(id, position), question?.question ?? id), question?.answer ?? "", question ? outcome(question) : "", positionName(position), fixed(activation)];
        }), { caption: "Questions", numeric: [4] })
      : note("none")),
  ];
}

// The tokens of a context, shaded; lengths has a character a token, from "0" for none.
function heated(before, token, after, lengths, heat) {
  const letters = [...before, ...token, ...after], here = [...before].length;
  let start = 0;
  return [...lengths].map((character, i) => {
    const at = start, text = letters.slice(start, start += character.charCodeAt(0) - 48).join("");
    return at === here && token ? h("mark", { class: `heat${level(heat[i])}` }, text) : heat[i] === "0" ? text : h("span", { class: `heat${level(heat[i])}` }, text);
  });
}

const level = (digit) => Math.ceil((Number(digit) * 4) / 9);

const heading = (found) => [
  h("p", { class: "near" }, link("#/latents", "all latents"), " · ", link(`#/sae/${found.layer}`, `the SAE of layer ${found.layer}`)),
  h("p", { class: "finding" }, found.label ? ["Active on ", h("b", null, found.label), `: F1 ${fixed(found.label_score, 2)} on text that the label was not made from.`] : `No label: no token says when it is active${Number.isFinite(found.label_score) ? ` (the best try has F1 ${fixed(found.label_score, 2)} on other text)` : ""}.`),
  h("dl", { class: "cards" },
    card("fires on", found.firing_rate === undefined ? "–" : share(found.firing_rate, 3), "of the corpus's tokens"),
    card("mean activation", found.mean_activation === undefined ? "–" : fixed(found.mean_activation), "where it fires")),
  h("div", { class: "pair" },
    h("div", null, h("h3", null, "Promotes (logits × the final norm’s scale)"), tokenList(found.promoted, "for", found.promoted_by)),
    h("div", null, h("h3", null, "Suppresses"), tokenList(found.suppressed, "against", found.suppressed_by))),
];

const tokenList = (tokens, kind, by) => (tokens?.length ? h("ul", { class: "tokens" }, tokens.map((token, i) => h("li", { class: kind }, visible(token), by && h("span", { class: "note" }, ` ${fixed(by[i], 2, true)}`)))) : note("not known"));
const positionName = (position) => (position < 0 ? "end of the subject" : position === 0 ? "last prompt token" : `answer token ${position}`);

// All latents that the file has a page of, found by label, by what they promote, or by layer.
const EVERY_LATENT = { find: "", layer: "", labelled: "", order: "-score" };
const BY = { latent: (a, b) => a.number - b.number, label: (a, b) => (a.label?.[0] ?? "\uffff").localeCompare(b.label?.[0] ?? "\uffff"), score: (a, b) => (a.label?.[1] ?? -1) - (b.label?.[1] ?? -1), promotes: (a, b) => a.promotes.localeCompare(b.promotes) };

async function latentsPage(query) {
  const index = await latents();
  if (!index.promoted.length) return [...absentNote(), section("Latents", note("This run has no latents yet."))];
  const rows = index.promoted.map((tokens, number) => {
    const [layer, latent, label] = [index.layer[number], index.latent[number], index.label[number]];
    return { number, layer, latent, label, promotes: tokens.map(visible).join(" "), search: `${layer}:${latent} ${label?.[0] ?? ""} ${tokens.map(plain).join(" ")}`.toLowerCase() };
  });
  const layers = [...new Set(rows.map((row) => row.layer))].sort((a, b) => a - b), state = stateOf(query, EVERY_LATENT);
  return [listing({ title: "Latents", page: "latents", defaults: EVERY_LATENT, state, hint: "words of a label or of promoted tokens, or layer:number",
    choices: [["layer", "Layer", [["", "all layers"], ...layers.map((layer) => [layer, `layer ${layer}`])]], ["labelled", "Label", [["", "with and without"], ["yes", "with a label"]]]],
    heads: [["latent", "latent"], ["label", "active on"], ["score", "F1", true], ["promotes", "promotes"]],
    select: () => narrowed(rows, state, BY, (row) => (state.layer === "" || row.layer === Number(state.layer)) && (!state.labelled || row.label)),
    cells: ({ layer, latent, label, promotes }) => [link(latentLink(layer, latent), `layer ${layer}, ${latent}`), label?.[0] ?? "no label", fixed(label?.[1], 2), promotes],
    told: (shown) => `${plural(shown.length, "latent")} of ${rows.length.toLocaleString("en-US")}${state.order === "-score" ? ", the best labelled first" : ""}.`,
    notes: note("A label is made of tokens in one half of held-out text and scored by F1 in the other; below 0.5 there is none.") })];
}
