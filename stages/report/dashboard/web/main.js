// Which page is shown follows from the address alone, so that every page can be linked to.

const PAGES = [["overview", "Overview"], ["results", "Results"], ["questions", "Questions"], ["latents", "Latents"], ["sae", "SAEs"], ...(served ? [["ask", "Ask"]] : [])];

function parseAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

const UNDRAWN = new Set(["questions", "latents", "ask"]); // pages without a chart

async function pageOf({ parts, query }) {
  const [name, ...rest] = parts;
  const notice = UNDRAWN.has(name) || (await charting());
  if (name === undefined || name === "overview") return overviewPage(notice);
  if (name === "results") return resultsPage(query);
  if (name === "questions") return questionsPage(query);
  if (name === "question") return questionPage(rest.join("/"), query);
  if (name === "latents") return latentsPage(query);
  if (name === "ask" && served) return askPage();
  if (name === "sae") return saePage(rest[0]);
  if (name === "latent") return latentPage(Number(rest[0]), Number(rest[1]));
  return [noSuchPage(name)];
}

const noSuchPage = (name) => section("Not found", note(`There is no page ${name}.`), h("p", null, link("#/overview", "Overview")));

// What is kept with an entry of the browser's history, so that Back leads to where one was.
const remembered = () => history.state ?? {};
const remember = (what) => history.replaceState({ ...remembered(), ...what }, "");

// What is kept for the next visit, where the browser lets a file keep anything.
function kept(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(`ghosttrack-${key}`, value);
    return localStorage.getItem(`ghosttrack-${key}`);
  } catch { return null; }
}

let visit = 0;
async function show() {
  const mine = ++visit, start = performance.now(), content = document.getElementById("content");
  let address = { parts: [] }, found;
  try {
    address = parseAddress();
    found = await pageOf(address);
  } catch (error) {
    if (error instanceof URIError) found = [noSuchPage(location.hash)];
    else {
      console.error(error);
      found = [section("This page cannot be shown", note(String(error.message ?? error)))];
    }
  }
  if (mine !== visit) return;
  content.replaceChildren(...found.flat(Infinity).filter(Boolean));
  const current = { question: "questions", latent: "latents" }[address.parts[0]] ?? address.parts[0] ?? "overview";
  for (const anchor of document.querySelectorAll("#pages a")) {
    if (anchor.dataset.page === current) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const heading = content.querySelector("h2")?.textContent ?? "";
  document.title = `${heading} · ${run.name} · GhostTrack`;
  document.getElementById("announce").textContent = heading;
  window.scrollTo(0, remembered().scroll ?? 0);
  await painted();
  if (mine !== visit) return;
  content.dataset.milliseconds = (performance.now() - start).toFixed(1);
  for (const make of pending.splice(0)) make();
  offerSaving();
  if (remembered().scroll) window.scrollTo(0, remembered().scroll);
  content.dataset.shown = location.hash;
}

// When what is there now is on the screen: a second frame begins once the first is drawn.
const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

async function begin() {
  history.scrollRestoration = "manual";
  if (kept("theme")) document.documentElement.dataset.theme = kept("theme");
  run = (await block("run")).data;
  document.getElementById("run-name").replaceChildren("GhostTrack ", h("small", null, run.name));
  document.getElementById("pages").append(...PAGES.map(([page, name]) => h("li", null, h("a", { href: `#/${page}`, "data-page": page }, name))));
  // the address says which page is shown, so the link must not change it
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("content").focus();
  });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = kept("theme", dark ? "light" : "dark") ?? (dark ? "light" : "dark");
  });
  let resting;
  addEventListener("scroll", () => { const where = location.hash; clearTimeout(resting); resting = setTimeout(() => { if (where === location.hash) remember({ scroll: Math.round(scrollY) }); }, 60); }, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest?.("input, select, textarea")) {
      event.preventDefault();
      const go = () => document.getElementById("find")?.focus();
      if (document.getElementById("find")) go();
      else { location.hash = "#/questions"; setTimeout(go, 150); }
    }
  });
  let resizing, wide = innerWidth;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { if (wide !== innerWidth) { wide = innerWidth; refit(); } }, 100); });
  addEventListener("hashchange", () => show());
  await show();
  document.documentElement.dataset.ready = (performance.now()).toFixed(0);
  // what every question page wants, before one is asked for
  await Promise.all([questions(), block("tokens"), latents(), charting()]).catch((error) => console.error(error));
}

begin();
