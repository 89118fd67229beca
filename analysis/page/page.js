// The pages behind the tables. Data comes as <script> files, because a page opened from a disk may not fetch.
"use strict";
const FIELDS = ["id", "subject", "sample", "prompt", "response", "gold", "score", "reason", "truncated", "tokens"];
const PAGE = 50;
const waiting = {};
const at = (id) => document.getElementById(id);

function load(path) {
  return new Promise((done, failed) => {
    waiting[path] = done;
    const script = document.createElement("script");
    script.src = path;
    script.onerror = () => failed(new Error(path + " is missing"));
    document.head.append(script);
  });
}
function arrived(path, data) { waiting[path](data); }  // every data file calls this

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function download(rows, name) {
  const url = URL.createObjectURL(new Blob([rows.map((row) => JSON.stringify(row)).join("\n") + "\n"]));
  const link = element("a");
  link.href = url; link.download = name; link.click();
  URL.revokeObjectURL(url);
}
function answer(row, head) {
  const box = element("article", undefined, row.score >= 1 ? "right" : "wrong");
  box.append(element("small", head), element("pre", row.prompt, "prompt"), element("pre", row.response));
  return box;
}

async function showResponses() {
  // #run,benchmark,step;run,benchmark,step: what the cell was made from.
  const picks = decodeURIComponent(location.hash.slice(1)).split(";").filter(Boolean).map((pick) => pick.split(","));
  if (!picks.length) { at("count").textContent = "open this page from a cell of a table"; return; }
  for (const [run, benchmark, step] of picks) at("pick").append(element("option", `${run} ${benchmark} step ${step}`));
  let rows = [], shown = [], drawn = 0;
  const more = () => {
    for (const row of shown.slice(drawn, drawn + PAGE)) {
      const cut = row.truncated ? ", cut off" : "";
      at("list").append(answer(row, `${row.id} · ${row.subject} · sample ${row.sample} · ${row.reason} (label ${row.gold}) · ${row.tokens} tokens${cut}`));
    }
    drawn = Math.min(drawn + PAGE, shown.length);
    at("more").hidden = drawn >= shown.length;
  };
  const draw = () => {
    const words = at("search").value.toLowerCase(), verdict = at("verdict").value, by = at("sort").value;
    shown = rows.filter((row) => (!verdict || row.reason === verdict)
      && (!words || row.prompt.toLowerCase().includes(words) || row.response.toLowerCase().includes(words)));
    shown.sort((a, b) => typeof a[by] === "number" ? a[by] - b[by] : String(a[by]).localeCompare(String(b[by]), "en", { numeric: true }));
    at("list").replaceChildren(); drawn = 0; more();
    const right = shown.filter((row) => row.score >= 1).length;
    at("count").textContent = `${shown.length} of ${rows.length} answers, ${right} right`;
  };
  const choose = async () => {
    const [run, benchmark, step] = picks[at("pick").selectedIndex];
    at("title").textContent = `${run}: ${benchmark}, step ${step}`;
    at("count").textContent = "loading";
    rows = [];
    try {
      for (let i = 0, parts = 1; i < parts; i++) {
        const part = await load(`data/${run}/${benchmark}-${step}-${i}.js`);
        parts = part.parts;
        for (const values of part.rows) rows.push(Object.fromEntries(FIELDS.map((name, k) => [name, values[k]])));
      }
    } catch (error) { at("count").textContent = error.message; return; }
    const reasons = [...new Set(rows.map((row) => row.reason))].sort();
    at("verdict").replaceChildren(element("option", "all"), ...reasons.map((reason) => element("option", reason)));
    at("verdict").firstChild.value = "";
    draw();
  };
  at("pick").onchange = choose;
  for (const id of ["verdict", "sort"]) at(id).onchange = draw;
  at("search").oninput = draw;
  at("more").onclick = more;
  at("download").onclick = () => download(shown, picks[at("pick").selectedIndex].join("-") + ".jsonl");
  await choose();
}

function table(names, lines) {
  const made = element("table"), head = element("tr");
  head.append(...names.map((name) => element("th", name)));
  made.append(head);
  for (const line of lines) {
    const row = element("tr");
    for (const value of line) {
      const cell = element("td");
      cell.append(value instanceof Node ? value : String(value ?? ""));
      row.append(cell);
    }
    made.append(row);
  }
  return made;
}

async function showRun() {
  const slug = location.hash.slice(1);
  if (!slug) { at("about").textContent = "open this page from the list of runs"; return; }
  let run;
  try { run = await load(`data/${slug}/run.js`); } catch (error) { at("about").textContent = error.message; return; }
  at("title").textContent = run.id;
  at("about").textContent = `${run.status} · ${run.hours.toFixed(2)} h on ${run.machine} · commit ${run.commit} · ${run.command}`;
  const steps = run.evolution;
  const draw = () => {
    const row = steps[at("step").value];
    at("at").textContent = `step ${row.step}`;
    at("evolution").replaceChildren(answer(row, `${row.reason} (label ${row.gold}) · ${Math.round(100 * row.share)} % of ${row.answers} answers right · ${row.tokens} tokens`));
  };
  at("step").max = Math.max(steps.length - 1, 0);
  at("step").oninput = draw;
  if (steps.length) draw(); else at("evolution").textContent = "The answers of this run are not at hand.";
  at("download").onclick = () => download(steps, slug + "-training.jsonl");
  const link = (benchmark, step, text) => {
    if (!run.stored.includes(`${benchmark}-${step}`)) return text;
    const made = element("a", text);
    made.href = `responses.html#${slug},${benchmark},${step}`;
    return made;
  };
  const all = [...new Set(run.evaluations.flatMap((e) => e.steps))].sort((a, b) => a - b);
  at("evaluations").append(table(["accuracy (%)", ...all.map((step) => `step ${step}`)], run.evaluations.map((e) => [e.benchmark,
    ...all.map((step) => { const i = e.steps.indexOf(step); return i < 0 ? "" : link(e.benchmark, step, e.accuracy[i].toFixed(1)); })])));
  at("settings").append(table(["key", "value"], Object.entries(run.settings).map(([key, value]) => [key, value])));
}
window.addEventListener("hashchange", () => location.reload());
