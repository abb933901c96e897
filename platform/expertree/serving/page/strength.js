/** How much of a restoration shows: the slider, and pictures mixed here without another request. */

import { byId, make } from "./dom.js";

/**
 * Makes the slider work.
 * @param {(strength: number) => void} onStrength Called with 0 to 1 at each move.
 */
export function setUpStrength(onStrength) {
  byId("strength").addEventListener("input", () => {
    show();
    onStrength(readStrength());
  });
  show();
}

/** @returns {number} From 0, the photo as it was, to 1, the whole restoration; 1 where no slider is shown. */
export const readStrength = () => (byId("strength-row").hidden ? 1 : Number(byId("strength").value) / 100);

/** Sets the slider back to the whole restoration, for the next photo. */
export function resetStrength() {
  byId("strength").value = "100";
  show();
}

/**
 * Mixes two pictures at their full size; transparency is the second one's.
 * @param {HTMLImageElement} before
 * @param {HTMLImageElement} after
 * @param {number} strength
 * @returns {HTMLCanvasElement}
 */
export function mix(before, after, strength) {
  const [width, height] = [after.naturalWidth, after.naturalHeight];
  const [, from] = draw(before, width, height);
  const [canvas, pen] = draw(after, width, height);
  const [low, high] = [from, pen].map((own) => own.getImageData(0, 0, width, height));
  for (let i = 0; i < high.data.length; i += 4) {
    for (let c = 0; c < 3; c++) high.data[i + c] = Math.floor(low.data[i + c] + strength * (high.data[i + c] - low.data[i + c]) + 0.5);
  }
  pen.putImageData(high, 0, 0);
  return canvas;
}

function draw(image, width, height) {
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  return [canvas, pen];
}

function show() {
  const words = `${byId("strength").value} %`;
  byId("strength-value").textContent = words;
  byId("strength").setAttribute("aria-valuetext", words);
}
