// A figure as a file of its own: SVG with its styles written into it, or a PNG drawn from that.

const STYLED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];

function standalone(picture) {
  const copy = picture.cloneNode(true), patterns = document.querySelector("svg.unseen defs").cloneNode(true);
  const inline = (from, to) => {
    const style = getComputedStyle(from);
    for (const name of STYLED) to.style.setProperty(name, style.getPropertyValue(name).replace(/url\("?[^#]*#(\w+)"?\)/, "url(#$1)"));
    [...from.children].forEach((child, i) => inline(child, to.children[i]));
  };
  inline(picture, copy);
  inline(document.querySelector("svg.unseen defs"), patterns);
  const [, , width, drawn] = picture.getAttribute("viewBox").split(" ").map(Number), around = picture.closest("figure, .pair > div, section"), TOP = 28;
  const text = (words, x, y, more) => s("text", { x, y, "font-family": "sans-serif", "font-size": 13, "text-anchor": "start", fill: getComputedStyle(document.body).color, ...more }, words);
  // The page's words about it are beside it: its title goes above, its legend below.
  copy.append(text(around?.querySelector("figcaption")?.textContent ?? picture.getAttribute("aria-label").split(": ")[0], 8, 17 - TOP, { "font-weight": 600, "font-size": 15 }));
  let x = 8, y = drawn + 6;
  for (const entry of around?.querySelectorAll(".legend li") ?? []) {
    const wide = 56 + 7.6 * entry.textContent.length;
    if (x > 8 && x + wide > width) [x, y] = [8, y + 20];
    const sign = entry.querySelector("svg").cloneNode(true);
    inline(entry.querySelector("svg"), sign);
    copy.append(fill(sign, { x, y }, []), text(entry.textContent, x + 40, y + 11));
    x += wide;
  }
  const height = TOP + (y > drawn + 6 || x > 8 ? y + 22 : drawn);
  fill(copy, { xmlns: SVG, width, height, viewBox: `0 ${-TOP} ${width} ${height}` }, []);
  copy.prepend(patterns, s("rect", { y: -TOP, width, height, fill: getComputedStyle(document.body).backgroundColor }));
  // tokens may hold characters that XML does not allow
  const written = new XMLSerializer().serializeToString(copy).replace(/[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, "\uFFFD");
  return { text: written, width, height };
}

function download(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const asSvg = (picture) => new Blob([standalone(picture).text], { type: "image/svg+xml" });

// Twice as many pixels as the figure has units, for print and for screens of high density.
async function asPng(picture) {
  const { width, height } = standalone(picture), address = URL.createObjectURL(asSvg(picture));
  try {
    const image = new Image(width, height);
    image.src = address;
    await image.decode();
    const canvas = h("canvas", { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally { URL.revokeObjectURL(address); }
}

// Under each picture that is large enough, and its legend.
function offerSaving() {
  const content = document.getElementById("content");
  for (const old of content.querySelectorAll("p.save")) old.remove();
  for (const picture of content.querySelectorAll("figure.chart > svg, svg.trajectory:not(.small)")) (picture.closest(".scroll") ?? picture.parentNode.querySelector(".legend") ?? picture).after(savers(picture));
}

function savers(picture) {
  const name = (picture.getAttribute("aria-label") ?? "figure").split(/[.:]/)[0].replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60).toLowerCase();
  const button = (kind, make) => h("button", { type: "button", class: "save", "aria-label": `Save as ${kind}: ${name}`, onclick: async () => download(await make(picture), `${run.name}-${name}.${kind.toLowerCase()}`) }, kind);
  return h("p", { class: "save note" }, "Save as ", button("SVG", asSvg), " ", button("PNG", asPng));
}
