// What only a page that `ghosttrack serve` sends can do: ask the model a new question, and take tracks out of it.

// A form that says what it is doing and, where it cannot, why.
function working(form, words, work) {
  const status = h("p", { role: "status", class: "note" });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button[type=submit]"), start = performance.now();
    button.disabled = true;
    const tick = setInterval(() => (status.textContent = `${words} ${fixed((performance.now() - start) / 1000, 0)} s`), 1000);
    status.textContent = words;
    try {
      await work();
      status.textContent = "";
    } catch (error) { status.textContent = String(error.message ?? error); }
    clearInterval(tick);
    button.disabled = false;
  });
  return status;
}

async function askPage() {
  const list = await questions(), relations = [...new Set(list.filter((question) => !question.new).map((question) => question.relation))].sort();
  const text = h("input", { id: "ask", required: true, size: 60, maxlength: 4000 }), subject = h("input", { size: 24 });
  const relation = h("select", null, h("option", { value: "" }, "none"), relations.map((name) => h("option", { value: name }, name)));
  const form = h("form", { class: "filters ask" }, h("label", { class: "find" }, "Question, or the beginning of a sentence ", text), h("label", null, "Relation ", relation), h("label", null, "Subject ", subject), h("button", { type: "submit" }, "Ask"));
  const status = working(form, "The model reads and answers; before its first answer it is loaded.", async () => {
    const entry = await (await call("ask", { question: text.value, relation: relation.value || null, subject: subject.value || null })).json();
    listed(entry, entry.number);
    list[entry.number] = entry;
    location.hash = questionLink(entry.id);
  });
  const asked = list.filter((question) => question.new);
  return [section("Ask the model", note("A relation’s worked examples come before the question. The subject is the words in it that it is about, such as Norway; left out, the whole text counts as it. The answer gets its tracks, the account of its lead and its probability of being wrong, as those of the run have; nothing is written into the run."), form, status),
    asked.length > 0 && section("Asked so far", h("ul", null, asked.map((question) => h("li", null, link(questionLink(question.id), question.question), " → ", h("b", null, question.answer)))))];
}

// Tracks of this position, the strongest on the answer first, to be taken out while the model answers again.
function takeOutForm(question, cell, named) {
  if (!served || !cell || cell.position > 0) return null;
  const { lanes } = lanesOf(cell.nodes()), by = (lane) => Math.abs(lane.peak.effect ?? 0);
  if (!lanes.length) return null;
  const words = (lane) => `${named(lane.loudest.layer, lane.loudest.latent).label} (track ${lane.track}, layers ${lane.birth}–${lane.death}, ${fixed(lane.peak.effect, 2, true)} logits)`;
  const choice = h("select", { multiple: true, size: 8, required: true }, [...lanes].sort((a, b) => by(b) - by(a)).map((lane) => h("option", { value: lane.track }, words(lane))));
  const found = h("div"), form = h("form", { class: "filters takeout" }, h("label", { class: "find" }, "Tracks ", choice), h("button", { type: "submit" }, "Take them out"));
  const status = working(form, "The model answers without them, and without as much of others.", async () => {
    const result = await (await call("without", { question: question.id, position: cell.position, tracks: [...choice.selectedOptions].map((option) => Number(option.value)) })).json();
    found.replaceChildren(h("p", { class: "finding" }, "Without them the model says ", h("b", null, result.new_answer || "(nothing)"), result.new_answer === result.answer ? ", as before" : "", `; under the control `, h("b", null, result.control_answer || "(nothing)"), `. The answer’s lead over its strongest rival changes by ${fixed(-result.drop, 2, true)} logits, under the control by ${fixed(-result.control_drop, 2, true)}.`),
      folded("Every candidate’s logit", table(["token", "logit", "change", "change under the control"], result.candidates.map((row) => [visible(row.token), fixed(row.logit, 2), fixed(row.change, 2, true), fixed(row.control_change, 2, true)]), { caption: "Candidates without these tracks", numeric: [1, 2, 3] })));
  });
  return section("Take tracks out now", note(`Of ${cell.position < 0 ? "the subject" : "the last prompt token"}; several with Ctrl or Shift.`), form, status, found);
}
