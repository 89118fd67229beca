// The first page's tables, and the pages behind them. Data comes as <script> files, because a page opened from a disk may not fetch.
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

async function answersOf(run, benchmark, step) {
  const rows = [];
  for (let i = 0, parts = 1; i < parts; i++) {
    const part = await load(`data/${run}/${benchmark}-${step}-${i}.js`);
    parts = part.parts;
    for (const values of part.rows) rows.push(Object.fromEntries(FIELDS.map((name, k) => [name, values[k]])));
  }
  return rows;
}

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

function showIndex() {
  for (const made of document.querySelectorAll("table.sortable")) {
    made.querySelectorAll("thead th").forEach((head, column) => {
      const button = element("button", head.textContent);
      let sign = -1;
      button.onclick = () => {
        sign = -sign;
        const key = (row) => row.cells[column].textContent;
        const rows = [...made.tBodies[0].rows].sort((a, b) => sign * key(a).localeCompare(key(b), "en", { numeric: true }));
        made.tBodies[0].append(...rows);
        for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      };
      head.replaceChildren(button);
    });
  }
  at("filter").oninput = () => {
    const words = at("filter").value.toLowerCase();
    for (const row of document.querySelectorAll("#runs-table tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(words);
  };
  const unfold = () => {
    for (let part = document.getElementById(location.hash.slice(1)); part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  };
  window.onhashchange = unfold;
  unfold();
}

async function showResponses() {
  window.onhashchange = () => location.reload();
  // #run,benchmark,step;run,benchmark,step;subject=...: what the cell was made from.
  const asked = decodeURIComponent(location.hash.slice(1)).split(";").filter(Boolean);
  const subject = (asked.find((part) => part.startsWith("subject=")) || "=").split("=")[1];
  const picks = asked.filter((part) => !part.startsWith("subject=")).map((pick) => pick.split(","));
  if (!picks.length) { at("count").textContent = "open this page from a cell of a table"; return; }
  const names = picks.map(([run, benchmark, step]) => `${run} ${benchmark} step ${step}`);
  if (picks.length > 1) at("pick").append(element("option", `all ${picks.length} seeds`));
  at("pick").append(...names.map((name) => element("option", name)));
  let rows = [], shown = [], drawn = 0;
  const more = () => {
    for (const row of shown.slice(drawn, drawn + PAGE)) {
      const cut = row.truncated ? ", cut off" : "", from = row.from ? ` · ${row.from}` : "";
      at("list").append(answer(row, `${row.id} · ${row.subject} · sample ${row.sample}${from} · ${row.reason} (label ${row.gold}) · ${row.tokens} tokens${cut}`));
    }
    drawn = Math.min(drawn + PAGE, shown.length);
    at("more").hidden = drawn >= shown.length;
  };
  const draw = () => {
    const words = at("search").value.toLowerCase(), verdict = at("verdict").value, by = at("sort").value, kind = at("subject").value;
    shown = rows.filter((row) => (!verdict || row.reason === verdict) && (!kind || row.subject === kind)
      && (!words || row.prompt.toLowerCase().includes(words) || row.response.toLowerCase().includes(words)));
    shown.sort((a, b) => typeof a[by] === "number" ? a[by] - b[by] : String(a[by]).localeCompare(String(b[by]), "en", { numeric: true }));
    at("list").replaceChildren(); drawn = 0; more();
    const right = shown.filter((row) => row.score >= 1).length;
    at("count").textContent = `${shown.length} of ${rows.length} answers, ${right} right`;
  };
  const choices = (id, found) => {
    at(id).replaceChildren(element("option", "all"), ...[...new Set(found)].sort().map((one) => element("option", one)));
    at(id).firstChild.value = "";
  };
  const choose = async () => {
    const chosen = picks.length === 1 ? picks : at("pick").selectedIndex ? [picks[at("pick").selectedIndex - 1]] : picks;
    at("title").textContent = chosen.length > 1 ? `${picks.length} seeds: ${names[0]} and its like` : chosen[0].join(" ");
    at("count").textContent = "loading";
    rows = [];
    try {
      for (const [run, benchmark, step] of chosen) {
        const from = chosen.length > 1 ? run.split(".").pop() : "";
        rows.push(...(await answersOf(run, benchmark, step)).map((row) => ({ ...row, from })));
      }
    } catch (error) { at("count").textContent = error.message; return; }
    choices("verdict", rows.map((row) => row.reason));
    choices("subject", rows.map((row) => row.subject));
    at("subject").value = rows.some((row) => row.subject === subject) ? subject : "";
    draw();
  };
  at("pick").onchange = choose;
  for (const id of ["verdict", "sort", "subject"]) at(id).onchange = draw;
  at("search").oninput = draw;
  at("more").onclick = more;
  at("download").onclick = () => download(shown, names[Math.max(0, at("pick").selectedIndex - (picks.length > 1))].replaceAll(" ", "-") + ".jsonl");
  await choose();
}

function table(names, lines) {
  const made = element("table"), head = element("tr");
  for (const name of names) { const cell = element("th", name); cell.scope = "col"; head.append(cell); }
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

const MIX = ["#009E73", "#7F5A2E", "#E69F00", "#56B4E9", "#D55E00"];
function shares(steps, kinds) {
  // Stacked shares of the kinds of answers over the steps, their names at the right end.
  const wide = 640, tall = 200, last = steps.length - 1, svg = (tag, keys) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(keys)) made.setAttribute(key, value);
    return made;
  };
  const ends = kinds.map((kind, i) => `${kind} ${Math.round(100 * steps[0].mix[i])} % to ${Math.round(100 * steps[last].mix[i])} %`);
  const made = svg("svg", { viewBox: `0 0 ${wide + 130} ${tall + 18}`, role: "img", "aria-label": `Answers by kind, first to last step: ${ends.join(", ")}` });
  const x = (k) => wide * (steps[k].step - steps[0].step) / (steps[last].step - steps[0].step);
  const below = (k, i) => tall * (1 - steps[k].mix.slice(0, i).reduce((a, b) => a + b, 0));
  const at_y = [];
  kinds.forEach((kind, i) => {
    const up = steps.map((_, k) => `${x(k).toFixed(1)},${below(k, i + 1).toFixed(1)}`), down = steps.map((_, k) => `${x(k).toFixed(1)},${below(k, i).toFixed(1)}`).reverse();
    made.append(svg("polygon", { points: [...up, ...down].join(" "), fill: MIX[i] }));
    at_y[i] = Math.min((below(last, i) + below(last, i + 1)) / 2 + 4, (at_y[i - 1] ?? tall + 13) - 13);
  });
  // Names that the ones below pushed out at the top come back, and push the others down.
  for (let i = kinds.length - 1, top = 11; i >= 0; i--, top += 13) at_y[i] = Math.max(at_y[i], top);
  kinds.forEach((kind, i) => {
    const name = svg("text", { x: wide + 8, y: at_y[i], "font-size": 12 });
    name.textContent = kind;
    made.append(svg("rect", { x: wide + 1, y: at_y[i] - 8, width: 4, height: 8, fill: MIX[i] }), name);
  });
  for (const [k, anchor] of [[0, "start"], [last, "end"]]) {
    const name = svg("text", { x: x(k), y: tall + 14, "font-size": 12, "text-anchor": anchor });
    name.textContent = `step ${steps[k].step}`;
    made.append(name);
  }
  return made;
}

const MOST_COMPARED = 4e6;
function marked(texts) {
  // Two texts as <pre>, their words outside the longest common subsequence in <mark>.
  const [a, b] = texts.map((text) => text.match(/\s+|\w+|[^\s\w]/g) || []), same = [new Set(), new Set()];
  let start = 0, cut = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start++;
  while (cut < Math.min(a.length, b.length) - start && a[a.length - 1 - cut] === b[b.length - 1 - cut]) cut++;
  const n = a.length - start - cut, m = b.length - start - cut;
  if (n * m <= MOST_COMPARED) {  // of longer ones all between the equal ends is marked
    const wide = m + 1, best = new Uint16Array((n + 1) * wide);
    for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--)
      best[i * wide + j] = a[start + i] === b[start + j] ? best[(i + 1) * wide + j + 1] + 1 : Math.max(best[(i + 1) * wide + j], best[i * wide + j + 1]);
    for (let i = 0, j = 0; i < n && j < m;) {
      if (a[start + i] === b[start + j]) { same[0].add(start + i++); same[1].add(start + j++); }
      else if (best[(i + 1) * wide + j] >= best[i * wide + j + 1]) i++; else j++;
    }
  }
  return [a, b].map((words, k) => {
    const made = element("pre");
    let last;
    words.forEach((word, i) => {
      const kept = i < start || i >= words.length - cut || same[k].has(i), tag = kept ? "SPAN" : "MARK";
      if (!last || last.tagName !== tag) { last = element(tag); made.append(last); }
      last.textContent += word;
    });
    return made;
  });
}
const CHANGES = { mended: (base, tuned) => base < 1 && tuned >= 1, broken: (base, tuned) => base >= 1 && tuned < 1,
  "wrong twice": (base, tuned) => base < 1 && tuned < 1, "right twice": (base, tuned) => base >= 1 && tuned >= 1 };

function showPairs(run, slug) {
  // Base and tuned answer to the same problem, side by side.
  const tuned = run.stored.map((stem) => [stem.slice(0, stem.lastIndexOf("-")), +stem.slice(stem.lastIndexOf("-") + 1)])
    .filter(([benchmark, step]) => step > 0 && benchmark in run.bases);
  if (!tuned.length) { at("pairs").textContent = "The answers of this run, or of its base, are not at hand."; return; }
  at("tuned").append(...tuned.map(([benchmark, step]) => element("option", `${benchmark}, step ${step}`)));
  at("tuned").selectedIndex = tuned.length - 1;
  let found = {}, shown = 0;
  const more = () => {
    const pairs = found[at("change").value];
    for (const rows of pairs.slice(shown, shown + PAGE)) {
      const box = element("section"), pair = element("div", undefined, "pair"), texts = marked(rows.map((row) => row.response));
      rows.forEach((row, k) => {
        const half = element("article", undefined, row.score >= 1 ? "right" : "wrong");
        half.append(element("small", `${k ? "tuned" : "base"}: ${row.reason} · ${row.tokens} tokens`), texts[k]);
        pair.append(half);
      });
      box.append(element("small", `${rows[0].id} · ${rows[0].subject} (label ${rows[0].gold})`), element("pre", rows[0].prompt, "prompt"), pair);
      at("pairs").append(box);
    }
    shown = Math.min(shown + PAGE, pairs.length);
    at("more").hidden = shown >= pairs.length;
  };
  const draw = () => { at("pairs").replaceChildren(); shown = 0; more(); };
  const choose = async () => {
    const [benchmark, step] = tuned[at("tuned").selectedIndex], key = (row) => `${row.id} ${row.sample}`;
    let base, ours;
    try { [base, ours] = [await answersOf(run.bases[benchmark], benchmark, 0), await answersOf(slug, benchmark, step)]; }
    catch (error) { at("pairs-count").textContent = error.message; return; }
    const before = new Map(base.map((row) => [key(row), row])), pairs = ours.filter((row) => before.has(key(row))).map((row) => [before.get(key(row)), row]);
    found = Object.fromEntries(Object.entries(CHANGES).map(([name, is]) => [name, pairs.filter(([b, t]) => is(b.score, t.score))]));
    at("change").replaceChildren(...Object.keys(found).map((name) => { const one = element("option", `${name} (${found[name].length})`); one.value = name; return one; }));
    at("pairs-count").textContent = `base: step 0 of ${run.bases[benchmark]}`;
    draw();
  };
  at("tuned").onchange = choose;
  at("change").onchange = draw;
  at("more").onclick = more;
  choose();
}

async function showRun() {
  window.onhashchange = () => location.reload();
  const slug = location.hash.slice(1);
  if (!slug) { at("about").textContent = "open this page from the list of runs"; return; }
  let run;
  try { run = await load(`data/${slug}/run.js`); } catch (error) { at("about").textContent = error.message; return; }
  at("title").textContent = run.id;
  at("about").textContent = `${run.status} · ${run.hours.toFixed(2)} h on ${run.machine} · commit ${run.commit} · ${run.command}`;
  const steps = run.evolution;
  if (steps.length > 1) at("mix").append(shares(steps, run.kinds));
  const draw = () => {
    const { step, answers, mix } = steps[at("step").value];
    at("at").textContent = `step ${step}: ${run.kinds.map((kind, i) => `${Math.round(100 * mix[i])} % ${kind}`).join(", ")}`;
    at("evolution").replaceChildren(...answers.map((row) => answer(row, `${row.count} x · ${run.kinds[row.kind]}: ${row.reason} (label ${row.gold}) · ${row.tokens} tokens`)));
  };
  at("step").max = Math.max(steps.length - 1, 0);
  at("step").oninput = draw;
  if (steps.length) draw(); else at("evolution").textContent = "The answers of this run are not at hand.";
  at("download").onclick = () => download(steps, slug + "-training.jsonl");
  showPairs(run, slug);
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
