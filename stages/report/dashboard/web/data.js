// Blocks of data: decoded when they are first wanted, the large ones forgotten when others take their place.

const MISSING = -2147483648;
const WINDOW = 24;
const decoded = new Map();

const parsed = new Promise((done) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", done, { once: true });
  else done();
});

function block(name) {
  if (decoded.has(name)) {
    const found = decoded.get(name);
    decoded.delete(name);
    decoded.set(name, found);
    return found;
  }
  const found = read(name);
  decoded.set(name, found);
  const large = [...decoded.keys()].filter((key) => /^[qf]\d/.test(key));
  for (const key of large.slice(0, Math.max(0, large.length - WINDOW))) decoded.delete(key);
  return found;
}

const served = document.documentElement.dataset.served !== undefined;

// What the server that the page came from answers; its word where it refuses.
async function call(path, body) {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers: { "X-GhostTrack-Token": token, ...(body && { "Content-Type": "application/json" }) }, body: body && JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `the server answers ${answer.status}`);
  return answer;
}

async function bytesOf(name) {
  let element = document.getElementById(`block-${name}`);
  if (!element && served) return (await call(`block/${name}`)).arrayBuffer();
  if (!element?.nextSibling) {
    await parsed;
    element = document.getElementById(`block-${name}`);
  }
  if (!element) throw new Error(`this file has no block ${name}`);
  return fromBase64(element.textContent);
}

async function read(name) {
  const bytes = await bytesOf(name);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const kinds = { int8: Int8Array, int16: Int16Array, int32: Int32Array };
  const columns = {};
  for (const [key, [kind, count, offset]] of Object.entries(head.columns)) {
    columns[key] = new kinds[kind](buffer, 4 + length + offset, count);
  }
  return { data: head.data, columns };
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// A number of a column of thousandths; null where there is none.
const real = (value) => (value === undefined || value === MISSING ? null : value / 1000);

let run; // what the pages about the whole run are made of
const report = () => run.reports["final_report.json"];

// The value at a JSON pointer of one of the run's files.
function at(file, pointer) {
  let value = run.reports[file];
  for (const part of pointer.split("/").slice(1)) value = value?.[part.replaceAll("~1", "/").replaceAll("~0", "~")];
  return value === undefined ? null : value;
}

let questionList;
async function questions() {
  if (!questionList) {
    questionList = (await block("questions")).data;
    questionList.byId = new Map();
    questionList.forEach(listed);
  }
  return questionList;
}

// A question as lists and search want it.
function listed(question, number) {
  question.number = number;
  question.search = [question.id, question.question, question.answer, question.gold, question.relation].join("\n").toLowerCase();
  questionList.byId.set(question.id, question);
}

// A question with its texts and its cells; each cell gives its tables' rows.
async function details(question) {
  const name = `q${Math.floor(question.number / run.questions_a_block)}`;
  const { data, columns } = await block(name);
  const record = data[question.number % run.questions_a_block];
  const table = (cell, kind) => {
    const [start, stop] = cell[kind] ?? [0, 0];
    const prefix = `${kind}.`;
    const names = Object.keys(columns).filter((key) => key.startsWith(prefix));
    const rows = [];
    for (let i = start; i < stop; i++) {
      const row = {};
      for (const key of names) {
        const column = key.slice(prefix.length);
        row[column] = WHOLE.has(column) ? columns[key][i] : real(columns[key][i]);
      }
      rows.push(row);
    }
    return rows;
  };
  const cells = record.cells.map((cell) => ({
    position: cell.position,
    nodes: () => table(cell, "nodes"),
    account: () => table(cell, "account"),
    layers: () => table(cell, "layers"),
    lens: () => table(cell, "lens"),
    candidates: () => table(cell, "candidates"),
  }));
  return { ...record, cells };
}

const WHOLE = new Set(["layer", "latent", "track", "n_active", "births", "deaths", "leader", "top", "rank", "token", "place", "side", "birth"]);

let latentIndex;
async function latents() {
  if (!latentIndex) {
    const { data, columns } = await block("latents");
    const place = new Map();
    for (let i = 0; i < (columns.layer?.length ?? 0); i++) place.set(`${columns.layer[i]}/${columns.latent[i]}`, i);
    latentIndex = { aBlock: data.a_block, promoted: data.promoted, label: data.label, layer: columns.layer, latent: columns.latent, place };
  }
  return latentIndex;
}

async function latentAt(layer, latent) {
  const index = await latents();
  const place = index.place.get(`${layer}/${latent}`);
  if (place === undefined) return null;
  const name = `f${Math.floor(place / index.aBlock)}`, found = (await block(name)).data[place % index.aBlock];
  if (found.counting) decoded.delete(name); // there is more of it in a moment
  return found;
}
