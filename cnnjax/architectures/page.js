"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { panel: 0, axis: "macs", hidden: new Set(), chosen: -1, sort: "accuracy", down: true };
const NARROW = 640;
let shown = []; // {point, x, y, r, group} of the bubbles drawn

function html(parent, tag, attributes = {}, text = null) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function svg(parent, tag, attributes = {}, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

const digits = (value) => value >= 99.95 ? value.toFixed(0) : String(+value.toPrecision(3));
function count(value) {
  for (const [size, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (value >= 0.9995 * size) return `${digits(value / size)} ${prefix}`;
  return digits(value);
}
function seconds(value) {
  for (const [size, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]])
    if (value >= 0.9995 * size) return `${digits(value / size)} ${unit}`;
  return `${digits(value / 1e-9)} ns`;
}
const whole = (value) => value.toLocaleString("en-US");
const percent = (value) => `${+(100 * value).toFixed(3)}%`;
const accuracy = (point) => point.spread === null ? percent(point.accuracy)
  : `${(100 * point.accuracy).toFixed(2)} ± ${(100 * point.spread).toFixed(2)}% over ${point.repeats} runs`;
const kindOf = (point) => point.kind === "run" ? data.kinds.run
  : `${point.family}, ${point.kind === "paper" ? "as in the paper" : "weights to download"}`;
const cost = (point) => point[state.axis];
const timed = () => state.axis === "seconds";
const points = () => data.panels[state.panel].points;

// Places for names: those of cnnjax/architectures/labels.py, in the pixels of the screen.
const overlap = (a, b, gap = 0) =>
  Math.max(Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x) + gap, 0) *
  Math.max(Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y) + gap, 0);
const away = (c, b) => Math.hypot(Math.max(b.x - c.x, 0, c.x - b.x - b.w), Math.max(b.y - c.y, 0, c.y - b.y - b.h));

function leader(c, b) {
  const x = Math.min(Math.max(c.x, b.x), b.x + b.w), y = Math.min(Math.max(c.y, b.y), b.y + b.h);
  const length = Math.hypot(x - c.x, y - c.y);
  if (length - c.r < 10) return null;
  return [c.x + c.r / length * (x - c.x), c.y + c.r / length * (y - c.y), x, y];
}

function crosses(line, box) {
  let first = 0, last = 1;
  const sides = [[line[0], line[2] - line[0], box.x, box.x + box.w], [line[1], line[3] - line[1], box.y, box.y + box.h]];
  for (const [start, step, low, high] of sides) {
    if (step === 0) { if (start < low || start > high) return false; continue; }
    const ends = [(low - start) / step, (high - start) / step].sort((a, b) => a - b);
    first = Math.max(first, ends[0]);
    last = Math.min(last, ends[1]);
  }
  return first <= last;
}

function candidates(c, w, h, area) {
  const found = Math.hypot(w, h) < 2 * c.r ? [{ x: c.x - w / 2, y: c.y - h / 2, w, h }] : [];
  const side = (v) => Math.abs(v) < 0.2 ? 0 : Math.sign(v) * Math.min(1, Math.abs(v) / 0.7);
  for (const distance of [0, 4, 10, 18, 28, 40, 54, 70, 90])
    for (let turn = 0; turn < 16; turn++) {
      const across = Math.cos(Math.PI * turn / 8), up = Math.sin(Math.PI * turn / 8), reach = c.r + 2 + distance;
      found.push({ x: c.x + reach * across + w / 2 * (side(across) - 1), y: c.y + reach * up + h / 2 * (side(up) - 1), w, h });
    }
  return found.filter((b) => b.x >= area.x && b.y >= area.y && b.x + b.w <= area.x + area.w && b.y + b.h <= area.y + area.h);
}

function standing(i, box, circles) {
  const own = circles[i];
  let sum = 0.1 * Math.max(0, away(own, box) - own.r) + (box.x + box.w / 2 < own.x ? 0.3 : 0);
  if (Math.abs(box.y + box.h / 2 - own.y) > box.h) sum += 0.4;
  circles.forEach((other, j) => {
    const within = other.r + 2 - away(other, box);
    if (j !== i && within > 0) sum += 4 + (other.r < 2 * box.h ? 30 : 0) + 4 * Math.min(1, within / box.h);
  });
  return sum;
}

function placeLabels(circles, sizes, area, bearable) {
  const choices = circles.map((c, i) => candidates(c, sizes[i][0], sizes[i][1], area).map((box) => [box, standing(i, box, circles)]));
  const placed = circles.map(() => null), costs = circles.map(() => Infinity);
  for (let round = 0; round < 5; round++)
    circles.forEach((own, i) => {
      const others = placed.map((box, j) => box && j !== i ? [box, leader(circles[j], box)] : null).filter(Boolean);
      let best = Infinity;
      placed[i] = null;
      for (const [box, fixed] of choices[i]) {
        const line = leader(own, box);
        let sum = fixed;
        for (const [other, their] of others) {
          const shared = overlap(box, other, 2);
          sum += (shared ? 100 + shared : 0) + (line && crosses(line, other) ? 25 : 0) + (their && crosses(their, box) ? 25 : 0);
        }
        if (sum < best) { best = costs[i] = sum; placed[i] = box; }
      }
    });
  // On a small screen not all names fit: those of wide bubbles stay, and a tap shows the others. Runs come first.
  const order = circles.map((_, i) => i).sort((a, b) => circles[b].first - circles[a].first || circles[b].r - circles[a].r);
  const kept = circles.map(() => null);
  for (const i of order)
    if (placed[i] && costs[i] < bearable && !kept.some((box) => box && overlap(placed[i], box))) kept[i] = placed[i];
  return kept;
}

// Scales and ticks.
function around(values, least, margin) {
  const low = Math.min(...values), high = Math.max(...values);
  const half = Math.max(high - low, least) / 2 / (1 - 2 * margin);
  return [(low + high) / 2 - half, (low + high) / 2 + half];
}
function logTicks(low, high, most) {
  const steps = [[1, 1.5, 2, 3, 4, 5, 7], [1, 2, 5], [1, 3], [1]].map((each) => {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++)
      for (const digit of each) {
        const value = digit * 10 ** power;
        if (Math.log10(value) >= low && Math.log10(value) <= high) found.push(value);
      }
    return found;
  });
  return steps.find((found) => found.length <= most) || steps[3];
}
function ticks(low, high, most) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => (high - low) / each <= most);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) if (i * step <= 1 + 1e-9) found.push(i * step);
  return found;
}

const ruler = document.createElement("canvas").getContext("2d");
function textWidth(text, bold) {
  ruler.font = `${bold ? "700 " : ""}11.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
  return ruler.measureText(text).width + 3;
}
const short = (name) => name.length <= 28 ? name : `${name.slice(0, 16)}…${name.slice(-10)}`;

function draw() {
  const panel = data.panels[state.panel], plot = byId("plot");
  const width = Math.max(plot.clientWidth, 280), narrow = width < NARROW, height = narrow ? 440 : Math.min(620, 0.54 * width);
  plot.replaceChildren();
  const chart = svg(plot, "svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${panel.title}: ${panel.accuracy} against ${axisName()}` });
  const many = panel.points.length > 12, widest = narrow ? 14 : Math.min(many ? 30 : 24, width / 36);
  const inner = { x: narrow ? 48 : 66, y: 2 * widest + 14, w: 0, h: 0 };
  inner.w = width - inner.x - 14;
  inner.h = height - inner.y - 54;
  const all = points(), largest = Math.max(...all.map((point) => point.params));
  const [left, right] = around(all.map((point) => Math.log10(cost(point))), 0.5, (widest + 6) / inner.w);
  const [bottom, top] = around(all.map((point) => point.accuracy), 0.02, (widest + 6) / inner.h);
  const toX = (value) => inner.x + (Math.log10(value) - left) / (right - left) * inner.w;
  const toY = (value) => inner.y + (top - value) / (top - bottom) * inner.h;
  for (const value of logTicks(left, right, inner.w / (narrow ? 62 : 95))) {
    svg(chart, "line", { class: "grid", x1: toX(value), x2: toX(value), y1: inner.y, y2: inner.y + inner.h });
    svg(chart, "text", { x: toX(value), y: inner.y + inner.h + 19, "text-anchor": "middle" }, timed() ? seconds(value) : count(value));
  }
  for (const value of ticks(bottom, top, inner.h / 55)) {
    svg(chart, "line", { class: "grid", x1: inner.x, x2: inner.x + inner.w, y1: toY(value), y2: toY(value) });
    svg(chart, "text", { x: inner.x - 8, y: toY(value) + 4, "text-anchor": "end" }, percent(value));
  }
  svg(chart, "path", { class: "frame", fill: "none", d: `M${inner.x},${inner.y}v${inner.h}h${inner.w}` });
  svg(chart, "text", { class: "axis", x: inner.x + inner.w / 2, y: height - 12, "text-anchor": "middle" }, axisName());
  svg(chart, "text", { class: "axis", x: 12, y: 24 }, narrow ? "accuracy" : panel.accuracy);
  drawSizes(chart, width - 12, widest + 6, largest, widest, narrow);

  const visible = all.map((point, index) => ({ point, index })).filter(({ point }) => !state.hidden.has(point.family));
  shown = visible.map(({ point, index }) => ({
    point, index, x: toX(cost(point)), y: toY(point.accuracy),
    r: Math.max(2, widest * Math.sqrt(point.params / largest)), first: point.kind === "run" ? 1 : 0,
  }));
  const bubbles = svg(chart, "g", { class: "bubbles" });
  for (const each of [...shown].sort((a, b) => b.r - a.r)) {
    const { point } = each, tone = `--tone:${data.colors[point.family]}`;
    if (point.spread !== null) svg(bubbles, "line", { class: "spread", style: tone, "stroke-width": 1.6, x1: each.x, x2: each.x, y1: toY(point.accuracy - point.spread), y2: toY(point.accuracy + point.spread) });
    each.group = svg(bubbles, "g", { class: `bubble ${point.kind}`, style: tone, tabindex: -1, role: "img", "aria-label": `${point.name}, ${kindOf(point)}: accuracy ${accuracy(point)}, ${count(point.macs)} multiply-adds, ${count(point.params)} parameters` });
    svg(each.group, "circle", { cx: each.x, cy: each.y, r: each.r });
    each.group.addEventListener("focus", () => choose(each.index));
  }
  const sizes = shown.map(({ point }) => [textWidth(short(point.name), point.kind === "run"), 14]);
  const area = { x: inner.x + 2, y: inner.y - 4, w: inner.w, h: inner.h };
  placeLabels(shown, sizes, area, narrow ? 7 : 30).forEach((box, i) => {
    if (!box) return;
    const line = leader(shown[i], box), { point } = shown[i];
    if (line) svg(chart, "line", { class: "leader", x1: line[0], y1: line[1], x2: line[2], y2: line[3] });
    svg(chart, "text", { class: `name ${point.kind}`, x: box.x + 1.5, y: box.y + 11 }, short(point.name));
  });
  const order = byCost();
  if (order.length) (order.find((each) => each.index === state.chosen) || order[0]).group.setAttribute("tabindex", 0);
  chart.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") choose(nearest(event, 14)); });
  chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") choose(-1); });
  chart.addEventListener("click", (event) => choose(nearest(event, 24)));
  chart.addEventListener("keydown", move);
  mark();
}

const axisName = () => timed() ? `time for an image, batch of ${data.timing.batch_size}` : "multiply-adds for an image";
const byCost = () => [...shown].sort((a, b) => a.x - b.x || b.y - a.y);

function drawSizes(chart, x, y, largest, widest, narrow) {
  const power = 10 ** Math.floor(Math.log10(largest)), top = [5, 2, 1].find((digit) => digit * power <= largest) * power;
  const group = svg(chart, "g", { class: "size" });
  for (const size of [top, top / 10, top / 100].filter((each) => each >= 1)) {
    const r = Math.max(2, widest * Math.sqrt(size / largest)), label = count(size);
    svg(group, "text", { x, y: y + 4, "text-anchor": "end" }, label);
    x -= textWidth(label) + 6 + r;
    svg(group, "circle", { cx: x, cy: y, r });
    x -= r + 10;
  }
  if (!narrow) svg(group, "text", { x, y: y + 4, "text-anchor": "end" }, "parameters");
}

function nearest(event, reach) {
  const frame = byId("plot").firstChild.getBoundingClientRect();
  const x = event.clientX - frame.left, y = event.clientY - frame.top;
  const far = (each) => Math.hypot(each.x - x, each.y - y);
  // Within several bubbles, the one whose middle is nearest for its size: so small ones can be reached.
  const close = shown.filter((each) => far(each) < each.r + reach)
    .sort((a, b) => Math.max(0, far(a) - a.r) - Math.max(0, far(b) - b.r) || far(a) / a.r - far(b) / b.r);
  return close.length ? close[0].index : -1;
}

function move(event) {
  const order = byCost(), at = order.findIndex((each) => each.index === state.chosen);
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  if (event.key === "Escape") return choose(-1);
  let to = steps[event.key] === undefined ? null : at + steps[event.key];
  if (event.key === "Home") to = 0;
  if (event.key === "End") to = order.length - 1;
  if (to === null || !order.length) return;
  event.preventDefault();
  order[Math.min(Math.max(to, 0), order.length - 1)].group.focus();
}

function choose(index) {
  if (index === state.chosen) return;
  state.chosen = index;
  mark();
}

function mark() {
  const detail = byId("detail"), chosen = shown.find((each) => each.index === state.chosen);
  detail.replaceChildren();
  document.querySelector(".bubbles").classList.toggle("faint", Boolean(chosen));
  for (const each of shown) {
    each.group.classList.toggle("chosen", each === chosen);
    if (chosen) each.group.setAttribute("tabindex", each === chosen ? 0 : -1);
  }
  for (const row of byId("table").tBodies[0].rows) row.classList.toggle("chosen", Boolean(chosen) && +row.dataset.index === state.chosen);
  if (!chosen) return;
  const { point } = chosen;
  html(detail, "h2", {}, point.name);
  const list = html(detail, "dl");
  const rows = [["accuracy", accuracy(point)], ["parameters", whole(point.params)], ["multiply-adds", whole(point.macs)]];
  if (point.seconds !== null) rows.push(["time", `${seconds(point.seconds)} an image`]);
  rows.push(["network", `${point.network}, ${point.image_shape.join("×")}`], ["source", point.source]);
  if (point.note) rows.push(["note", point.note]);
  for (const [name, value] of rows) { html(list, "dt", {}, name); html(list, "dd", {}, value); }
  const width = byId("plot").clientWidth, height = byId("plot").clientHeight;
  if (width >= NARROW) { // beside the bubble, on the side with more room
    const box = detail.getBoundingClientRect(), right = chosen.x < width / 2;
    detail.style.left = `${right ? chosen.x + chosen.r + 14 : chosen.x - chosen.r - 14 - box.width}px`;
    detail.style.top = `${Math.min(Math.max(chosen.y - box.height / 2, 8), Math.max(8, height - box.height - 8))}px`;
  }
}

const COLUMNS = [
  ["name", "network", (point) => point.name, (point) => point.name.toLowerCase()],
  ["accuracy", "accuracy", accuracy, (point) => point.accuracy],
  ["macs", "multiply-adds", (point) => count(point.macs), (point) => point.macs],
  ["params", "parameters", (point) => count(point.params), (point) => point.params],
  ["seconds", "time", (point) => seconds(point.seconds), (point) => point.seconds],
  ["source", "source of the accuracy", (point) => point.note ? `${point.source}; ${point.note}` : point.source, (point) => point.source],
];

function fillTable() {
  const table = byId("table"), columns = COLUMNS.filter(([key]) => key !== "seconds" || data.timing);
  table.caption.textContent = data.panels[state.panel].title;
  table.tHead.replaceChildren();
  table.tBodies[0].replaceChildren();
  const head = html(table.tHead, "tr"), number = (key) => ["accuracy", "macs", "params", "seconds"].includes(key);
  for (const [key, title] of columns) {
    const sorted = key === state.sort, cell = html(head, "th", { scope: "col", class: number(key) ? "number" : "" });
    if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    html(cell, "button", { type: "button" }, title + (sorted ? (state.down ? " ↓" : " ↑") : "")).addEventListener("click", () => {
      state.down = sorted ? !state.down : number(key);
      state.sort = key;
      fillTable();
    });
  }
  const value = COLUMNS.find(([key]) => key === state.sort)[3], sign = state.down ? -1 : 1;
  const rows = points().map((point, index) => [point, index])
    .sort(([a], [b]) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
  for (const [point, index] of rows) {
    const row = html(table.tBodies[0], "tr", { "data-index": index });
    for (const [key, , text] of columns) {
      const cell = html(row, "td", { class: number(key) ? "number" : key === "name" ? "first" : "source" });
      if (key === "name") html(cell, "span", { class: "dot", style: `--tone:${data.colors[point.family]}` });
      cell.append(text(point));
    }
  }
}

function buttons() {
  const sets = byId("sets");
  sets.replaceChildren();
  data.panels.forEach((panel, i) => {
    const tab = html(sets, "button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "chart", "aria-selected": i === state.panel, tabindex: i === state.panel ? 0 : -1 }, panel.title);
    tab.addEventListener("click", () => { Object.assign(state, { panel: i, chosen: -1 }); update(); });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      Object.assign(state, { panel: (i + step + data.panels.length) % data.panels.length, chosen: -1 });
      update();
      byId(`tab-${state.panel}`).focus();
    });
  });
  byId("chart").setAttribute("aria-labelledby", `tab-${state.panel}`);
  const axes = byId("axes");
  axes.replaceChildren();
  if (data.timing)
    for (const [key, title] of [["macs", "multiply-adds"], ["seconds", "time"]])
      html(axes, "button", { type: "button", "aria-pressed": state.axis === key }, title).addEventListener("click", () => { state.axis = key; update(); });
  const families = byId("families"), here = new Set(points().map((point) => point.family));
  families.replaceChildren();
  for (const [family, tone] of Object.entries(data.colors)) {
    if (!here.has(family)) continue;
    const button = html(families, "button", { type: "button", "aria-pressed": !state.hidden.has(family) });
    html(button, "span", { class: "dot", style: `--tone:${tone}` });
    button.append(family);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(family)) state.hidden.add(family);
      update();
      [...byId("families").children].find((each) => each.textContent === family).focus();
    });
  }
  const kinds = byId("kinds");
  kinds.replaceChildren();
  for (const kind of ["paper", "weights"]) {
    if (!points().some((point) => point.kind === kind)) continue;
    const item = html(kinds, "span");
    html(item, "span", { class: `dot ${kind}` });
    item.append(data.kinds[kind]);
  }
}

function update() {
  buttons();
  fillTable();
  draw();
}

const own = data.panels.findIndex((panel) => panel.points.some((point) => point.kind === "run"));
state.panel = Math.max(own, 0);
const how = data.timing ? ` Times: ${data.timing.what}, batch of ${data.timing.batch_size}, on ${data.timing.machine}.` : "";
byId("how").textContent = `Parameters and multiply-adds are counted for one image, evaluated once; accuracies of papers may be of several crops.${how}`;
for (const reason of data.left_out) html(byId("left-out"), "li", {}, `Left out: ${reason}`);
update();
let width = byId("plot").clientWidth;
addEventListener("resize", () => {
  if (byId("plot").clientWidth === width) return;
  width = byId("plot").clientWidth;
  draw();
});
