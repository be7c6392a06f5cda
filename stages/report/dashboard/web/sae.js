// The card of each layer's SAE.

function saePage(layer) {
  const quality = run.reports["sae_quality.json"];
  if (!quality) return [...absentNote(), section("Sparse autoencoders", note("This run has not measured its SAEs yet."))];
  return layer === undefined ? saeOverview(quality) : saeCard(quality, Number(layer));
}

const spliceOf = (each, kind, ablation) => each.splice?.[`${kind}_recovered`]?.[ablation] ?? null;
const identityOf = (quality, layer) => quality.identity?.adjacent?.findIndex((pair) => pair.layer === layer) ?? -1;

function saeOverview(quality) {
  const series = (name, value) => ({ name, points: quality.layers.map((each) => [each.layer, value(each)]), dots: true });
  const adjacent = quality.identity?.adjacent ?? [];
  return [
    section("Sparse autoencoders", note("Measured on held-out text. Recovered: the share of the loss that the model does not lose when the reconstruction takes the block's place, where 0% is what the mean state in its place would do."),
      h("div", { class: "charts" },
        lineChart({ title: "Active latents a token (L0)", series: [series("L0", (each) => each.l0), { name: "target", points: quality.layers.map((each) => [each.layer, each.target_l0]) }], xLabel: "layer", yLabel: "L0" }),
        lineChart({ title: "Variance unexplained (FVU)", series: [series("FVU", (each) => each.fvu)], xLabel: "layer", yLabel: "FVU" }),
        lineChart({ title: "Loss recovered, against the mean state", series: [series("cross-entropy", (each) => spliceOf(each, "ce", "mean")), series("KL", (each) => spliceOf(each, "kl", "mean"))], xLabel: "layer", yLabel: "share" }),
        lineChart({ title: "The same latent in the next layer", series: [
          { name: "nearest decoder direction has its number", points: adjacent.map((pair) => [pair.layer, pair.self_match]), dots: true },
          { name: "cosine with the latent of its number", points: adjacent.map((pair) => [pair.layer, pair.cosine]), dots: true }], xLabel: "layer", yLabel: "share or cosine", y: [0, 1] })),
      table(["layer", "L0", "target", "FVU", "loss (MSE)", "dead", "cross-entropy recovered", "KL recovered", "same latent in the next layer"],
        quality.layers.map((each, i) => {
          const here = `/layers/${i}`, pair = identityOf(quality, each.layer);
          return [link(`#/sae/${each.layer}`, `layer ${each.layer}`), figure("sae_quality.json", `${here}/l0`, { digits: 1 }), figure("sae_quality.json", `${here}/target_l0`, { digits: 0 }), figure("sae_quality.json", `${here}/fvu`), figure("sae_quality.json", `${here}/mse`),
            figure("sae_quality.json", `${here}/dead_fraction`, { percent: true }), figure("sae_quality.json", `${here}/splice/ce_recovered/mean`, { percent: true }), figure("sae_quality.json", `${here}/splice/kl_recovered/mean`, { percent: true }),
            pair < 0 ? "–" : figure("sae_quality.json", `/identity/adjacent/${pair}/self_match`, { percent: true })];
        }), { caption: "SAEs, layer by layer", numeric: [1, 2, 3, 4, 5, 6, 7, 8] })),
  ];
}

function saeCard(quality, layer) {
  const i = quality.layers.findIndex((each) => each.layer === layer);
  if (i < 0) return [section("Not found", note(`There is no SAE of layer ${layer}.`))];
  const each = quality.layers[i], here = `/layers/${i}`, pair = identityOf(quality, layer);
  const near = (other) => quality.layers.some((one) => one.layer === other) && link(`#/sae/${other}`, `layer ${other}`);
  const number = (name, pointer, options) => card(name, figure("sae_quality.json", `${here}/${pointer}`, options));
  return [section(`The SAE of layer ${layer}`,
    h("p", { class: "near" }, link("#/sae", "all layers"), near(layer - 1) && [" · ", near(layer - 1)], near(layer + 1) && [" · ", near(layer + 1)]),
    h("dl", { class: "cards" },
      number("active latents a token (L0)", "l0", { digits: 1 }), number("variance unexplained (FVU)", "fvu"), number("loss (MSE, normalised)", "mse"), number("dead latents", "dead_fraction", { percent: true }),
      number("cross-entropy recovered", "splice/ce_recovered/mean", { percent: true }), number("KL recovered", "splice/kl_recovered/mean", { percent: true }),
      pair >= 0 && card("nearest in the next layer has its number", figure("sae_quality.json", `/identity/adjacent/${pair}/self_match`, { percent: true }), "of its latents"),
      pair >= 0 && card("cosine with the next layer's", figure("sae_quality.json", `/identity/adjacent/${pair}/cosine`), "decoder directions of the same number")),
    h("div", { class: "charts" },
      each.l0_histogram && bars({ title: "Active latents of a token", values: each.l0_histogram.counts, label: (k) => fixed(each.l0_histogram.edges[k], 0), xLabel: "active latents", yLabel: "tokens" }),
      each.firing_rate_histogram && bars({ title: "How often latents fire", values: each.firing_rate_histogram.counts, label: (k) => `${Number((100 * 10 ** each.firing_rate_histogram.log10_edges[k]).toPrecision(2))}%`, xLabel: "share of tokens", yLabel: "latents" })),
    each.l0_quantiles && note(`Active latents at the quantiles of tokens: ${Object.entries(each.l0_quantiles).map(([q, value]) => `${share(Number(q), 0)}: ${fixed(value, 0)}`).join(", ")}.`))];
}
