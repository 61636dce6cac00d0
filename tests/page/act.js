// SPDX-License-Identifier: Apache-2.0
// A pointer over the first chart, a drag over a part of it, a legend, a key, and a table's head.
const chart = document.querySelector("figure.chart"), plot = () => chart.querySelector("svg");
const box = plot().getBoundingClientRect();
const point = (type, share) => plot().dispatchEvent(new PointerEvent(type,
  { clientX: box.left + share * box.width, clientY: box.top + 50, pointerId: 1, bubbles: true }));
SVGElement.prototype.setPointerCapture = () => {};
const labels = () => [...document.querySelectorAll("figure.chart")].map((each) =>
  [...each.querySelectorAll("svg text[text-anchor=middle]")].map((node) => node.textContent));
const found = {};
point("pointermove", 0.9);
found.readout = chart.querySelector(".readout").textContent;
point("pointerleave", 0.9);
found.gone = chart.querySelector(".readout").hidden;
found.before = labels();
point("pointerdown", 0.5); point("pointermove", 0.7); point("pointerup", 0.7);
found.zoomed = labels();
chart.querySelector(".control:not([hidden])").click();
found.after = labels();
const lines = () => chart.querySelectorAll("polyline").length;
found.lines = [lines()];
chart.querySelector(".legend button").click();
found.lines.push(lines());
plot().dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
found.key = chart.querySelector(".readout").textContent;
const table = document.querySelector("table.sortable"), column = () => [...table.tBodies[0].rows].map((row) => row.cells[2].textContent);
table.tHead.rows[0].cells[2].querySelector("button").click();
found.falling = column();
table.tHead.rows[0].cells[2].querySelector("button").click();
found.rising = column();
report(found);
