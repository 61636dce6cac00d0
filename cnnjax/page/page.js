// SPDX-License-Identifier: Apache-2.0
// The charts of a page, drawn as SVG from the numbers beside them, and tables that sort.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 10, right: 12, bottom: 34, left: 52 };
const NARROWEST_ZOOM = 8; // pixels that a drag must be wide to be a zoom and not a click
const charts = [];
let domain = null; // [from, to] on the horizontal axis that all charts are zoomed to; null: everything

function svg(tag, attributes, parent, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function html(tag, className, parent, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// Numbers -----------------------------------------------------------------------------------------------------------

function format(value, kind) {
  if (kind === "percent") return (100 * value).toFixed(2) + "%";
  if (kind === "count") return Math.round(value).toLocaleString("en");
  return Number(value.toPrecision(4)).toString();
}

function formatTick(value, kind) {
  if (kind === "percent") return Number((100 * value).toPrecision(6)) + "%";
  if (value !== 0 && Math.abs(value) < 0.0001) return value.toExponential(Number.isInteger(Math.log10(Math.abs(value))) ? 0 : 1).replace(".0e", "e");
  if (Math.abs(value) >= 10000) return value.toLocaleString("en", { notation: "compact" });
  return Number(value.toPrecision(6)).toString();
}

function linearTicks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high, count) {
  const ticks = [];
  const decades = Math.log10(high / low);
  const every = Math.max(Math.ceil(decades / count), 1); // decades between ticks, where there are many
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of decades > 2.5 ? [1] : [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (power % every === 0 && value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  return ticks.length > 1 ? ticks : linearTicks(low, high, count);
}

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle; else high = middle;
  }
  return high >= 0 && Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
}

// A chart -----------------------------------------------------------------------------------------------------------

class Chart {
  constructor(figure) {
    this.data = JSON.parse(figure.querySelector("script").textContent);
    this.hidden = new Set();
    this.log = this.data.log;
    this.box = figure.querySelector(".plot");
    this.told = this.box.dataset.told;
    this.box.textContent = "";
    this.buildControls(figure.querySelector("figcaption"));
    this.readout = html("div", "readout", this.box);
    this.readout.hidden = true;
    this.readout.setAttribute("aria-live", "polite");
    this.buildLegend(figure);
  }

  start() {
    this.draw();
    new ResizeObserver(() => { if (this.box.clientWidth !== this.width) this.draw(); }).observe(this.box);
  }

  buildControls(parent) {
    this.reset = html("button", "control", parent, "Reset zoom");
    this.reset.addEventListener("click", () => zoom(null));
    const positive = this.data.series.every((s) => s.lines.every((l) => l.y.every((y) => y > 0)));
    if (this.data.format !== "number" || !positive) return;
    const scale = html("button", "control", parent, "Log");
    const mark = () => scale.setAttribute("aria-pressed", this.log);
    scale.addEventListener("click", () => { this.log = !this.log; mark(); this.draw(); });
    mark();
  }

  buildLegend(figure) {
    if (this.data.series.length < 2) return;
    const legend = html("div", "legend", figure);
    for (const series of this.data.series) {
      const button = html("button", "", legend);
      html("span", "swatch", button).style.background = `var(--c${series.color})`;
      html("span", "", button, series.name);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        if (!this.hidden.delete(series)) this.hidden.add(series);
        button.setAttribute("aria-pressed", String(!this.hidden.has(series)));
        this.draw();
      });
    }
  }

  visible() { return this.data.series.filter((series) => !this.hidden.has(series)); }

  lines() { return this.visible().flatMap((series) => series.lines.map((line) => ({ series, line }))); }

  extent() {
    const xs = this.data.series.flatMap((s) => s.lines.flatMap((l) => [l.x[0], l.x[l.x.length - 1]])).filter(isFinite);
    const all = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
    if (all[0] === all[1]) { all[0] -= 0.5; all[1] += 0.5; }
    const [from, to] = domain || all;
    let low = Infinity, high = -Infinity;
    for (const { line } of this.lines())
      line.y.forEach((y, i) => {
        if (line.x[i] >= from && line.x[i] <= to) { low = Math.min(low, y); high = Math.max(high, y); }
      });
    if (low > high) [low, high] = [0, 1];
    if (!domain && this.data.bottom !== null) low = Math.max(low, Math.min(this.data.bottom, high));
    if (this.log) return { from, to, low: low / (high / low) ** 0.06, high: high * (high / low || 1.1) ** 0.06 };
    const pad = 0.06 * (high - low) || Math.abs(high) * 0.05 || 0.01;
    const floor = low >= 0 ? 0 : -Infinity;
    return { from, to, low: Math.max(low - pad, floor), high: high + pad };
  }

  draw() {
    const width = this.box.clientWidth, height = this.box.clientHeight;
    if (!width) return; // not shown
    this.width = width;
    this.svg?.remove();
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0 });
    root.setAttribute("aria-label", this.told);
    this.box.prepend(root);
    this.svg = root;
    const { from, to, low, high } = this.extent();
    const plot = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
    const across = (plot.right - plot.left) / (to - from), scale = this.log ? Math.log : Number;
    this.x = (value) => plot.left + (value - from) * across;
    this.y = (value) => plot.bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low))) * (plot.bottom - plot.top);
    this.xValue = (pixel) => from + (Math.min(Math.max(pixel, plot.left), plot.right) - plot.left) / across;
    this.plot = plot;
    this.reset.hidden = domain === null;
    this.drawAxes(root, from, to, low, high);
    const clip = `clip${charts.indexOf(this)}`;
    svg("rect", { x: plot.left, y: plot.top - 4, width: plot.right - plot.left + (domain ? 0 : 5), height: plot.bottom - plot.top + 5 },
      svg("clipPath", { id: clip }, root));
    const inside = svg("g", { "clip-path": `url(#${clip})` }, root);
    for (const { series, line } of this.lines()) this.drawLine(inside, series, line);
    this.cursor = svg("g", { class: "cursor" }, root);
    this.listen(root);
  }

  drawAxes(root, from, to, low, high) {
    const { left, right, top, bottom } = this.plot;
    const rows = Math.max(Math.floor((bottom - top) / 34), 2);
    for (const tick of this.log ? logTicks(low, high, rows) : linearTicks(low, high, rows)) {
      const y = this.y(tick);
      svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }, root);
      svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, root, formatTick(tick, this.data.format));
    }
    for (const tick of linearTicks(from, to, (right - left) / 80)) {
      svg("line", { class: "tick", x1: this.x(tick), x2: this.x(tick), y1: bottom, y2: bottom + 4 }, root);
      svg("text", { x: this.x(tick), y: bottom + 17, "text-anchor": "middle" }, root, formatTick(tick, "number"));
    }
    svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }, root);
    svg("text", { class: "name", x: right, y: bottom + 31, "text-anchor": "end" }, root, this.data.x);
  }

  drawLine(parent, series, line) {
    const points = line.x.map((x, i) => `${this.x(x).toFixed(1)},${this.y(line.y[i]).toFixed(1)}`);
    const style = `stroke:var(--c${series.color})`;
    svg("polyline", { class: line.faint ? "line faint" : "line", points: points.join(" "), style }, parent);
    if (line.faint || (!series.marks && line.x.length > 1) || line.x.length > 60) return;
    line.x.forEach((x, i) =>
      svg("circle", { cx: this.x(x), cy: this.y(line.y[i]), r: 3, style: `fill:var(--c${series.color})` }, parent));
  }

  // What the pointer and the keyboard do ----------------------------------------------------------------------------

  listen(root) {
    let start = null, shade = null;
    const place = (event) => event.clientX - root.getBoundingClientRect().left;
    root.addEventListener("pointerdown", (event) => {
      start = place(event);
      root.setPointerCapture(event.pointerId);
    });
    root.addEventListener("pointermove", (event) => {
      const now = place(event);
      if (start === null || Math.abs(now - start) < NARROWEST_ZOOM) { this.read(this.xValue(now)); return; }
      shade ??= svg("rect", { class: "shade", y: this.plot.top, height: this.plot.bottom - this.plot.top }, root);
      const [a, b] = [start, now].sort((p, q) => p - q).map((p) => this.x(this.xValue(p)));
      shade.setAttribute("x", a);
      shade.setAttribute("width", b - a);
    });
    const end = (event) => {
      const from = start;
      start = null;
      shade?.remove();
      if (shade && event.type === "pointerup") zoom([from, place(event)].map(this.xValue).sort((p, q) => p - q));
      else if (event.type === "pointerup") this.read(this.xValue(place(event)));
      shade = null;
    };
    root.addEventListener("pointerup", end);
    root.addEventListener("pointercancel", end);
    root.addEventListener("pointerleave", () => { if (start === null) this.read(null); });
    root.addEventListener("dblclick", () => zoom(null));
    root.addEventListener("blur", () => this.read(null));
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") zoom(null);
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const first = this.lines().find(({ line }) => line.read && line.x.length);
      if (!move || !first) return;
      event.preventDefault();
      const xs = first.line.x, last = xs.length - 1;
      const next = this.at === undefined ? (move > 0 ? 0 : last) : nearest(xs, this.at) + move;
      this.read(xs[Math.min(Math.max(next, 0), last)]);
    });
  }

  read(x) {
    this.cursor.textContent = "";
    this.readout.textContent = "";
    this.readout.hidden = true;
    this.at = x ?? undefined;
    const near = (this.xValue(this.plot.right) - this.xValue(this.plot.left)) / 50; // beyond its ends a line has no value
    const reaches = (line) => line.x[0] - near <= x && x <= line.x[line.x.length - 1] + near;
    const found = x === null ? [] : this.lines().filter(({ line }) => line.read && line.x.length && reaches(line));
    if (!found.length) return;
    const xs = found.map(({ line }) => line.x[nearest(line.x, x)]);
    const here = xs.reduce((best, value) => (Math.abs(value - x) < Math.abs(best - x) ? value : best));
    svg("line", { x1: this.x(here), x2: this.x(here), y1: this.plot.top, y2: this.plot.bottom }, this.cursor);
    html("div", "where", this.readout, `${this.data.x} ${Number(here.toFixed(2)).toLocaleString("en")}`);
    for (const { series, line } of found.slice(0, 12)) {
      const i = nearest(line.x, here);
      const style = `fill:var(--c${series.color})`;
      if (line.y[i] > 0 || !this.log) svg("circle", { cx: this.x(line.x[i]), cy: this.y(line.y[i]), r: 4, style }, this.cursor);
      const row = html("div", "", this.readout);
      html("span", "swatch", row).style.background = `var(--c${series.color})`;
      html("span", "", row, [series.name, line.label].filter(Boolean).join(", "));
      html("strong", "", row, format(line.y[i], this.data.format));
    }
    this.readout.hidden = false;
    const right = this.x(here) > this.box.clientWidth / 2;
    this.readout.style.left = right ? `${MARGIN.left}px` : "auto";
    this.readout.style.right = right ? "auto" : `${MARGIN.right}px`;
  }
}

function zoom(range) {
  domain = range && range[1] > range[0] ? range : null;
  for (const chart of charts) chart.draw();
}

// Tables ------------------------------------------------------------------------------------------------------------

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const number = (text) => (/^[−-]?[\d.,]+ ?%?$/.test(text) ? Number(text.replace(/[,% ]/g, "").replace("−", "-")) : NaN);
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const rising = head.getAttribute("aria-sort") === "descending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
    rows.sort((a, b) => {
      const [p, q] = [number(a.text), number(b.text)];
      if (isNaN(p) !== isNaN(q)) return isNaN(p) - isNaN(q); // what is no number comes last
      const order = isNaN(p) ? b.text.localeCompare(a.text) : q - p;
      return rising ? -order : order;
    });
    body.append(...rows.map(({ row }) => row));
  }));
}

for (const figure of document.querySelectorAll("figure.chart")) charts.push(new Chart(figure));
for (const chart of charts) chart.start();
for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
