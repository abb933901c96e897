/** What layers with experts of their own chose: a column a layer, a row an expert. */

import { byId, makeSvg, percent } from "./dom.js";

const WIDTH = 400;
const LABEL = 62;
const ROW = 17;
const MOST = 26;

/**
 * Shows the choices, or nothing where a network's layers choose nothing.
 * @param {number[][] | undefined} layers For each layer, each expert's share of the tiles.
 */
export function showLayers(layers = []) {
  byId("layers").hidden = !layers.length;
  if (!layers.length) return;
  const count = layers[0].length;
  byId("layers-lead").textContent = `Each of ${layers.length} layers has ${count} experts of its own and took one for each tile.`;
  const step = Math.min(MOST, (WIDTH - LABEL) / layers.length);
  const svg = byId("layer-map");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${ROW * count + 20}`);
  svg.setAttribute("aria-label", layers.map((shares, layer) => `layer ${layer + 1}: ${inWords(shares)}`).join("; "));
  svg.replaceChildren(
    ...layers[0].map((_, expert) => makeSvg("text", { x: 0, y: ROW * expert + 12 }, `expert ${expert + 1}`)),
    ...layers.flatMap((shares, layer) => shares.map((share, expert) => makeCell(share, layer, expert, step))),
    makeSvg("text", { class: "caption", x: LABEL, y: ROW * count + 14 }, "layers, first to last"),
  );
}

/** A cell: how much of the photo an expert of a layer took. */
function makeCell(share, layer, expert, step) {
  const place = { x: LABEL + step * layer, y: ROW * expert + 1, width: Math.max(step - 3, 2), height: ROW - 3, rx: 3 };
  return makeSvg(
    "g", {},
    makeSvg("title", {}, `layer ${layer + 1}, expert ${expert + 1}: ${percent(share)} of the tiles`),
    makeSvg("rect", { ...place, class: "track" }),
    ...(share > 0 ? [makeSvg("rect", { ...place, class: "taken", opacity: String(0.25 + 0.75 * share) })] : []),
  );
}

function inWords(shares) {
  const taken = shares.map((share, expert) => [share, expert]).filter(([share]) => share > 0).sort((a, b) => b[0] - a[0]);
  return taken.map(([share, expert]) => `expert ${expert + 1}${taken.length > 1 ? ` for ${percent(share)}` : ""}`).join(", ");
}
