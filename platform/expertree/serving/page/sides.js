/** What stands on each side of the line: the photo as it was or its clean picture, and the result. */

import { byId, make } from "./dom.js";
import { measurePsnr } from "./examples.js";
import { mix } from "./strength.js";

/**
 * @typedef {import("./viewer.js").Viewer} Viewer
 * @typedef {import("./work.js").Work} Work
 */

const SIDES = ["as it was", "clean"];

/**
 * Makes the buttons that choose the left side.
 * @param {(side: string) => void} onSide
 */
export function setUpSides(onSide) {
  byId("sides").replaceChildren(...SIDES.map((side, index) => {
    const button = make("button", { type: "button", "aria-pressed": String(index === 0) }, side);
    button.addEventListener("click", () => onSide(side));
    return button;
  }));
}

/**
 * Shows the photo as it was on the left, or the clean picture where it is known.
 * @param {Viewer} viewer
 * @param {Work} work
 * @param {string} side "as it was" or "clean".
 */
export async function showSide(viewer, work, side) {
  const isClean = side === "clean";
  for (const button of byId("sides").children) button.setAttribute("aria-pressed", String(button.textContent === side));
  if (viewer.before.src !== (isClean ? work.cleanUrl : work.url)) await viewer.replaceBefore(isClean ? work.cleanUrl : work.url);
  byId("before-tag").replaceChildren(side, ...gainTag(isClean ? null : work.psnr));
}

/**
 * Mixes what is on the screen; the pictures are there already.
 * @param {Viewer} viewer
 * @param {Work} work With a restoration that is shown.
 * @param {number} strength From 0 to 1.
 */
export function showStrength(viewer, work, strength) {
  const isWhole = strength === 1;
  viewer.mix(strength);
  let { psnr } = work.shown;
  if (work.clean && !isWhole) psnr = measurePsnr(mix(viewer.input, viewer.after, strength), work.clean);
  byId("after-tag").replaceChildren(isWhole ? "restored" : "mixed", ...gainTag(psnr));
}

function gainTag(psnr) {
  return psnr === null ? [] : [make("b", {}, `${psnr.toFixed(1)} dB`)];
}
