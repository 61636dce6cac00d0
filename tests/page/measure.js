// SPDX-License-Identifier: Apache-2.0
// Walks over all text: the contrast of its colour with what lies behind it (WCAG 2), and what sticks out of the window.
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = rgba(getComputedStyle(at).backgroundColor);
    if (color[3] > 250) return color;
  }
  return [255, 255, 255];
};
const words = [], outside = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE", "NOSCRIPT", "TITLE"].includes(node.tagName.toUpperCase())) continue;
  if (!node.getClientRects().length || node.closest(".unseen")) continue;
  const style = getComputedStyle(node);
  const [a, b] = [rgba(node.closest("svg") ? style.fill : style.color), behind(node)].map(luminance);
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) words.push([walker.currentNode.textContent.trim().slice(0, 40), contrast]);
  if (parseFloat(style.fontSize) < 11) words.push([walker.currentNode.textContent.trim(), style.fontSize]);
}
for (const node of document.querySelectorAll("body *"))
  if (node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, nav, .unseen")) outside.push(node.tagName + "." + node.className);
report({ words, outside, width: innerWidth, wide: document.documentElement.scrollWidth,
  plots: [...document.querySelectorAll("figure.chart svg")].map((svg) => svg.querySelectorAll("polyline").length) });
