/** How far a restoration is: the bar, and a square for each tile. */

import { byId, make, percent } from "./dom.js";

const MOST_TILES_DRAWN = 96;

/**
 * @param {string} name What is being done.
 * @param {number | null} share How much of it, in [0, 1]; null where nobody knows.
 */
export function showProgress(name, share) {
  show(name, share, share === null ? "" : percent(share));
  byId("tiles").hidden = true;
}

/**
 * @param {number} done
 * @param {number} total 0 where that is not known yet.
 */
export function showTiles(done, total) {
  show("Restoring", total ? done / total : null, total ? `tile ${Math.min(done + 1, total)} of ${total}` : "");
  const tiles = byId("tiles");
  tiles.hidden = total < 2 || total > MOST_TILES_DRAWN;
  if (tiles.hidden) return;
  tiles.replaceChildren(...Array.from({ length: total }, (_, i) => make("i", { class: i < done && "done" })));
}

function show(name, share, words) {
  byId("stage-name").textContent = name;
  byId("stage-share").textContent = words;
  byId("bar").parentElement.classList.toggle("unknown", share === null);
  byId("bar").style.width = `${100 * (share ?? 0)}%`;
}
