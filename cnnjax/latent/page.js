// SPDX-License-Identifier: Apache-2.0
// Every frame is a picture that the autoencoder has drawn already: a slider only chooses among them.
"use strict";
const data = JSON.parse(document.getElementById("frames").textContent);

for (const [name, tracks] of Object.entries(data)) {
  const root = document.getElementById(name);
  const slider = root.querySelector('input[type="range"]');
  const [still, moving] = ["still", "moving"].map((part) => root.querySelector(`img.${part}`));
  const said = root.querySelector("output");
  const choices = [...root.querySelectorAll('input[type="radio"]')];

  const show = () => {
    const track = tracks[Math.max(choices.findIndex((choice) => choice.checked), 0)];
    const frame = track.frames[slider.value];
    moving.src = frame.picture;
    moving.alt = `${track.title}, ${frame.words}`;
    said.textContent = frame.words;
    slider.setAttribute("aria-valuetext", frame.words);
    if (still) {
      still.src = track.picture;
      still.alt = track.title;
      still.nextElementSibling.textContent = track.title;
    }
  };

  slider.addEventListener("input", show);
  for (const choice of choices) choice.addEventListener("change", show);
  show();
}
