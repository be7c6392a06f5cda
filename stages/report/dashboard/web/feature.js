// The page of a feature: what it answers to, what it promotes, and where its tracks come from and go to.

async function featurePage(layer, latent) {
  const [found, list] = await Promise.all([feature(layer, latent), questions()]);
  const title = `Feature ${latent} of layer ${layer}`;
  if (!found) return [section(title, note("This feature is in none of the tracks that this page has."), h("p", null, link("#/questions", "Questions")))];
  const index = await features();
  const promotes = (l, f) => { const place = index.place.get(`${l}/${f}`); return place === undefined ? "" : (index.promoted[place] ?? []).map(visible).join(" "); };
  const neighbours = (rows, words) => rows?.length
    ? table(["feature", "promotes", "tracks", "decoder cosine", "mean link posterior"], rows.map(([l, f, count, cosine, posterior]) => [link(featureLink(l, f), `layer ${l}, ${f}`), promotes(l, f), fixed(count, 0), fixed(cosine), fixed(posterior)]), { caption: words, numeric: [2, 3, 4] })
    : note("none");
  if (!found.from && !found.contexts) // named by another feature, and on no track that is drawn
    return [section(title, ...heading(found), note("None of the tracks that this file draws goes through it, so that is all that the file has of it."))];
  const most = Math.max(...(found.contexts ?? []).map((each) => each[0]), 1e-9);
  return [
    section(title, ...heading(found)),
    section("Where it is most active in the corpus", found.contexts?.length
      ? h("ol", { class: "contexts" }, found.contexts.map(([activation, before, token, after]) => h("li", null,
          h("span", { class: "activation" }, fixed(activation)), h("span", { class: "text" }, before, h("mark", { class: `heat${Math.max(1, Math.ceil((activation / most) * 4))}` }, token), after))))
      : note("This page has no contexts of it.")),
    section("Neighbours", h("h3", null, "Its tracks come from"), neighbours(found.from, "Features before it"), h("h3", null, "Its tracks go on to"), neighbours(found.to, "Features after it")),
    section("Questions in which it is most active", found.examples?.length
      ? table(["question", "answer", "", "position", "activation"], found.examples.map(([id, position, activation]) => {
          const question = list.byId.get(id);
          return [link(questionLink(id, position), question?.question ?? id), question?.answer ?? "", question ? outcome(question) : "", positionName(position), fixed(activation)];
        }), { caption: "Questions", numeric: [4] })
      : note("none")),
  ];
}

const heading = (found) => [
  h("p", { class: "near" }, link(`#/sae/${found.layer}`, `the SAE of layer ${found.layer}`)),
  h("dl", { class: "cards" },
    card("fires on", found.firing_rate === undefined ? "–" : share(found.firing_rate, 3), "of the corpus's tokens"),
    card("mean activation", found.mean_activation === undefined ? "–" : fixed(found.mean_activation), "where it fires")),
  h("div", { class: "pair" },
    h("div", null, h("h3", null, "Promotes"), tokenList(found.promoted, "for")),
    h("div", null, h("h3", null, "Suppresses"), tokenList(found.suppressed, "against"))),
];

const tokenList = (tokens, kind) => (tokens?.length ? h("ul", { class: "tokens" }, tokens.map((token) => h("li", { class: kind }, visible(token)))) : note("not known"));
const positionName = (position) => (position < 0 ? "end of the subject" : position === 0 ? "last prompt token" : `answer token ${position}`);
