// Keeps a page of the rehearsal workspace up to date: it asks the page's own address for JSON, and puts in what changed.
"use strict";

const SECONDS = 1.5; // between two questions, while something may still change
const LOG_CHARACTERS = 400000; // of a log, that the page holds
const main = document.getElementById("main");
const here = location.pathname.replace(/\/$/, "");
const get = (id) => document.getElementById(id);
let shown = {}; // what each part was last given
let curves = [];
let library = null; // the promise of the chart library

async function ask(path, query) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${answer.status} ${path}`);
  return answer.json();
}

function put(parts) {
  for (const [name, html] of Object.entries(parts)) {
    if (shown[name] === html) continue;
    shown[name] = html;
    get(`part-${name}`).innerHTML = html; // made by the server, which escapes all that it was told
  }
}

// Curves

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function chartLibrary() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${main.dataset.root}/assets/plotly.js`;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("no chart library"));
    document.head.append(script);
  });
  return library;
}

const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // plotly reads some HTML

async function draw() {
  const drawn = curves.filter((curve) => curve.count > 1).slice(0, 24);
  get("metrics").hidden = !curves.length;
  if (!drawn.length) return;
  let Plotly;
  try {
    Plotly = await chartLibrary();
  } catch {
    get("no-charts").hidden = false;
    return;
  }
  const charts = get("charts");
  while (charts.children.length < drawn.length) {
    const chart = document.createElement("div");
    chart.className = "chart";
    chart.setAttribute("role", "img");
    charts.append(chart);
  }
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true };
  drawn.forEach((curve, index) => {
    const chart = charts.children[index];
    const key = JSON.stringify([curve, get("log-scale").checked, colour("ground")]);
    if (chart.key === key) return;
    chart.key = key;
    chart.setAttribute("aria-label", `${curve.name}: ${curve.count} values, the last ${curve.last}`);
    const trace = {
      x: curve.x, y: curve.y, type: "scatter", mode: curve.y.length > 60 ? "lines" : "lines+markers",
      line: { color: colour("curve"), width: 2 }, marker: { size: 5 },
      hovertemplate: `${curve.axis} %{x}<br>%{y}<extra></extra>`,
    };
    const layout = {
      title: { text: plain(curve.name), font: { size: 14 }, x: 0.02, xanchor: "left", y: 0.97, yanchor: "top" },
      margin: { l: 12, r: 14, t: 34, b: 12 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: colour("text") }, showlegend: false, uirevision: "kept",
      xaxis: { ...axis, title: { text: curve.axis, font: { size: 12 }, standoff: 6 } },
      yaxis: { ...axis, type: get("log-scale").checked ? "log" : "linear" },
      hoverlabel: { bgcolor: colour("ground"), font: { color: colour("text") } },
    };
    Plotly.react(chart, [trace], layout, { responsive: true, displayModeBar: false });
  });
  while (charts.children.length > drawn.length) {
    Plotly.purge(charts.lastChild);
    charts.lastChild.remove();
  }
}

// Logs

let log = { name: null, next: null, text: "" };

function offer(names) {
  const select = get("log-name");
  get("logs").hidden = !names.length;
  if ([...select.options].map((each) => each.value).join("\n") === names.join("\n")) return;
  const chosen = select.dataset.chosen || names[0];
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = names.includes(chosen) ? chosen : names[0];
}

async function read() {
  const name = get("log-name").value;
  if (!name) return;
  if (log.name !== name) log = { name, next: null, text: "" };
  for (;;) {
    const asked = log;
    const piece = await ask(`${here}/log`, asked.next === null ? { name } : { name, start: asked.next });
    if (asked !== log) return; // another log was chosen meanwhile
    if (piece.start !== log.next) log.text = "";
    log.next = piece.next;
    const grown = piece.text.length > 0;
    if (grown) {
      // What a progress bar has written over, and colours, are left out
      log.text = (log.text + piece.text).replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "").replace(/\r+\n/g, "\n")
        .replace(/[^\n]*\r(?=[^\n])/g, "");
      if (log.text.length > LOG_CHARACTERS) log.text = log.text.slice(log.text.indexOf("\n", log.text.length - LOG_CHARACTERS / 2) + 1);
    }
    const box = get("log");
    if (box.textContent !== log.text) box.textContent = log.text;
    if (get("log-follow").checked) box.scrollTop = box.scrollHeight;
    get("log-size").textContent = piece.skipped ? `The end of ${piece.size.toLocaleString("en")} bytes; the whole log is under Files` : "";
    if (piece.next >= piece.size || !grown) return;
  }
}

// The page

async function refresh() {
  const state = await ask(location.pathname, { live: 1 });
  put(state.parts);
  if (state.logs) {
    offer(state.logs);
    await read(); // before the curves: the first one waits for the chart library
  }
  if (state.curves) {
    curves = state.curves;
    await draw();
  }
  return state.over;
}

async function follow() {
  let over = false;
  while (!over) {
    try {
      if (!document.hidden || !shown.facts) over = await refresh();
      get("lost").hidden = true;
    } catch (problem) {
      get("lost").hidden = false;
    }
    main.dataset.state = over ? "over" : "live";
    if (!over) await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
  }
}

if (main.dataset.root !== undefined) {
  get("log-scale")?.addEventListener("change", draw);
  get("log-name")?.addEventListener("change", (event) => { event.target.dataset.chosen = event.target.value; read(); });
  get("log-follow")?.addEventListener("change", read);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => curves.length && draw());
  follow();
}
