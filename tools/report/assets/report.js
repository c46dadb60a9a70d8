"use strict";
// Draws the curves of this page with uPlot. `report`: {runs: [label], metrics: [{name, curves: [{run, steps, values,
// meanSteps?, means?}]}]}; a value of null is a gap. Curves of many points are thinned; means are of all their points.
const report = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const smoothing = document.getElementById("smoothing");
const logarithmic = document.getElementById("log");
const charts = [];
const HEIGHT = 260, PRINTED = 660; // pixels
const COLORS = 8;

const style = name => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const color = run => style(`run-${run % COLORS}`);
const shown = value => value == null ? "–" : String(Number(value.toPrecision(7)));

// The exponential moving average whose start is not drawn towards zero (Kingma and Ba, "Adam", 2014, section 3).
function smoothed(values, weight) {
  let sum = 0, count = 0;
  return values.map(value => {
    if (value == null) return null;
    sum = sum * weight + (1 - weight) * value;
    count += 1;
    return sum / (1 - weight ** count);
  });
}

// uPlot's columns: the steps of all curves, then each curve, then each smoothed one.
function columns(metric, weight) {
  const positive = value => logarithmic.checked && value <= 0 ? null : value;
  const tables = metric.curves.map(curve => [curve.steps, curve.values.map(positive)]);
  if (weight > 0)
    for (const curve of metric.curves)
      tables.push([curve.meanSteps ?? curve.steps, smoothed(curve.means ?? curve.values, weight).map(positive)]);
  return uPlot.join(tables);
}

// The nearest point of a curve to where the cursor is: curves of other runs may have no point there.
function nearest(plot, series, index) {
  const values = plot.data[series], steps = plot.data[0];
  let left = index, right = index;
  while (left >= 0 && values[left] == null) left--;
  while (right < values.length && values[right] == null) right++;
  if (left < 0) return right < values.length ? right : null;
  if (right >= values.length) return left;
  return steps[index] - steps[left] <= steps[right] - steps[index] ? left : right;
}

function options(metric, weight, width) {
  const series = [{label: "step", value: (plot, step) => step == null ? "–" : step.toLocaleString("en")}];
  metric.curves.forEach(({run}) => series.push({
    label: report.runs[run] + (weight > 0 ? ", as logged" : ""),
    stroke: color(run),
    alpha: weight > 0 ? 0.25 : 1,
    width: run === 0 ? 3 : 1.5, // of two curves that are the same, both are seen
    dash: run === 0 ? undefined : [7, 4],
    points: {fill: style("page")},
    value: (plot, value) => shown(value),
  }));
  if (weight > 0)
    metric.curves.forEach(({run}) => series.push({
      label: report.runs[run],
      stroke: color(run),
      width: run === 0 ? 3 : 1.5,
      dash: run === 0 ? undefined : [7, 4],
      points: {show: false},
      value: (plot, value) => shown(value),
    }));
  const axis = {stroke: style("quiet"), grid: {stroke: style("line"), width: 1}, ticks: {stroke: style("line"), width: 1}};
  return {
    width, height: HEIGHT, series,
    scales: {x: {time: false}, y: {distr: logarithmic.checked ? 3 : 1}},
    axes: [{...axis}, {...axis, size: 64}],
    cursor: {drag: {x: true, y: false}, dataIdx: nearest},
  };
}

function build(chart) {
  const range = chart.plot && chart.zoomed ? {...chart.plot.scales.x} : null;
  chart.plot?.destroy();
  const weight = Number(smoothing.value);
  const width = root.classList.contains("print") ? PRINTED : chart.place.clientWidth;
  chart.plot = new uPlot(options(chart.metric, weight, width), columns(chart.metric, weight), chart.place);
  chart.plot.over.addEventListener("dblclick", () => chart.zoomed = false);
  chart.plot.hooks.setSelect = [() => chart.zoomed = true];
  for (const row of chart.plot.root.querySelectorAll(".u-series th")) {
    row.tabIndex = 0;
    row.setAttribute("role", "button");
    row.onkeydown = event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); row.click(); } };
  }
  if (range) zoom(chart, range.min, range.max);
}

function zoom(chart, min, max) {
  const steps = chart.plot.data[0], first = steps[0], last = steps[steps.length - 1];
  if (max - min >= last - first) return reset(chart);
  min = Math.max(first, Math.min(min, last - (max - min)));
  chart.zoomed = true;
  chart.plot.setScale("x", {min, max: Math.min(last, max)});
}

function reset(chart) {
  const steps = chart.plot.data[0];
  chart.zoomed = false;
  chart.plot.setScale("x", {min: steps[0], max: steps[steps.length - 1]});
}

function key(chart, event) {
  if (event.target !== chart.place || event.ctrlKey || event.metaKey || event.altKey) return;
  const plot = chart.plot, {min, max} = plot.scales.x, steps = plot.data[0];
  const index = plot.cursor.idx ?? plot.valToIdx((min + max) / 2), middle = steps[index];
  if (event.key === "+" || event.key === "=") zoom(chart, middle - (middle - min) / 2, middle + (max - middle) / 2);
  else if (event.key === "-") zoom(chart, middle - (middle - min) * 2, middle + (max - middle) * 2);
  else if (event.key === "0" || event.key === "Escape") reset(chart);
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const next = Math.max(0, Math.min(steps.length - 1, index + (event.key === "ArrowLeft" ? -1 : 1)));
    const [low, high] = [plot.valToIdx(min), plot.valToIdx(max)];
    const left = plot.valToPos(steps[Math.max(low, Math.min(high, next))], "x");
    plot.setCursor({left, top: plot.over.clientHeight / 2});
  } else return;
  event.preventDefault();
}

for (const metric of report.metrics) {
  const place = document.getElementById(`chart-${charts.length}`);
  const chart = {metric, place, plot: null, zoomed: false};
  charts.push(chart);
  build(chart);
  place.addEventListener("keydown", event => key(chart, event));
  new ResizeObserver(() => {
    const width = place.clientWidth;
    if (width && width !== chart.plot.width && !root.classList.contains("print")) chart.plot.setSize({width, height: HEIGHT});
  }).observe(place);
}

if (charts.length) {
  let before = 0;
  smoothing.addEventListener("input", () => {
    const weight = Number(smoothing.value);
    document.getElementById("weight").textContent = weight ? weight.toFixed(2) : "off";
    for (const chart of charts)
      if (before > 0 && weight > 0) {
        const {min, max} = chart.plot.scales.x;
        chart.plot.setData(columns(chart.metric, weight), false);
        chart.plot.setScale("x", {min, max});
      } else build(chart);
    before = weight;
  });
  logarithmic.addEventListener("change", () => charts.forEach(build));
  document.getElementById("reset").addEventListener("click", () => charts.forEach(reset));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(build));
}

// On paper everything is light, and no log is folded.
let folded = [];
addEventListener("beforeprint", () => {
  root.classList.add("print");
  folded = [...document.querySelectorAll("details.log:not([open])")];
  folded.forEach(each => each.open = true);
  charts.forEach(build);
});
addEventListener("afterprint", () => {
  root.classList.remove("print");
  folded.forEach(each => each.open = false);
  charts.forEach(build);
});
