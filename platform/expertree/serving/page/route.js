/** The routing card: what the model saw, the way through the tree, and the experts it passed by. */

import { byId, make, makeSvg, percent } from "./dom.js";

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./api.js").ModelNode} ModelNode
 * @typedef {import("./api.js").Route} Route
 */

const WIDTH = 400;
const LEFT = 16;
const TOP = 10;
const LEVEL_ROW = 46;
const LABEL = 104;
const SHARE = 50;
const NUM_SHOWN = 5;

/** Share of a degradation from which on it is worth a word. */
export const MUCH = 0.3;

/**
 * What a group of samples mostly is, in words.
 * @param {Record<string, number>} holds
 * @returns {string}
 */
function describeGroup(holds) {
  const names = inWords(holds).filter(([, share]) => share >= MUCH);
  if (!names.length || names.length > 3) return "mixed";
  const [first, second] = names;
  return (second && second[1] > 0.6 * first[1] ? [first, second] : [first]).map(([name]) => name).join(" + ");
}

/**
 * Shares by the words for each degradation, the largest first. A model may know one by two names.
 * @param {Record<string, number>} shares
 * @returns {[string, number][]}
 */
export function inWords(shares) {
  const found = new Map();
  for (const [name, share] of Object.entries(shares)) found.set(readable(name), Math.min(1, share + (found.get(readable(name)) ?? 0)));
  return [...found].sort((one, other) => other[1] - one[1]);
}

/**
 * The name of a degradation as people write it.
 * @param {string} name
 * @returns {string}
 */
export function readable(name) {
  return name === "jpeg" ? "JPEG" : name.replaceAll(/[_-]/g, " ");
}

/**
 * An expert in words.
 * @param {Model} model
 * @param {number} expert
 * @returns {string}
 */
export function describeExpert(model, expert) {
  return expert === 0 ? "everything" : describeGroup(model.nodes[expert].holds);
}

/**
 * Whether a model is a single network, without a tree to choose in.
 * @param {Model} model
 * @returns {boolean}
 */
export function isSingle(model) {
  return model.experts.length === 1;
}

/**
 * The probability of each expert: of all choices that end at it; of a photo that is left as it is,
 * how sure that is.
 * @param {Route} route
 * @returns {Map<number | null, number>}
 */
function expertShares(route) {
  const rest = route.alternatives.reduce((sum, other) => sum + other.probability, 0);
  return new Map([[route.expert, route.expert === null ? route.confidence : Math.max(0, 1 - rest)], ...route.alternatives.map((other) => /** @type {[number, number]} */ ([other.expert, other.probability]))]);
}

/**
 * The expert of a route's node: the one that serves, or that would if one insisted.
 * @param {Model} model
 * @param {Route} route
 * @returns {number}
 */
export function servingExpert(model, route) {
  return model.nodes[route.node].expert;
}

/**
 * Why a photo is left as it is, in words.
 * @param {Model} model
 * @param {Route} route
 * @returns {string}
 */
export function whyAsIs(model, route) {
  if (isSingle(model)) return `The network is not expected to make it better${route.gain_db === null ? "" : `: ${route.gain_db.toFixed(1)} dB`}.`;
  const expert = servingExpert(model, route);
  const who = `expert #${expert} (${describeExpert(model, expert)})`;
  if (route.gain_db === null) return `No expert is expected to make it better; ${who} comes nearest.`;
  const gain = `${Math.abs(route.gain_db).toFixed(1)} dB`;
  if (route.gain_db < 0) return `Every expert is expected to make it worse; ${who} comes nearest, at ${gain} less.`;
  return `No expert is expected to make a difference that anyone sees; ${who} comes nearest, with ${gain}.`;
}

/**
 * Draws the tree; with a route, the way that an image took through it.
 * @param {Model} model
 * @param {Route | null} route
 * @param {(expert: number) => void} [onExpert] Called when a node is clicked.
 */
export function drawTree(model, route, onExpert) {
  const levels = model.groups.length;
  const leaves = model.nodes.filter((node) => node.level === levels - 1);
  const row = leaves.length > 14 ? 17 : 25;
  const gap = Math.min(66, 150 / Math.max(levels - 1, 1));
  const mostSamples = Math.max(...leaves.map((leaf) => leaf.num_samples));
  const height = TOP + row * leaves.length + LEVEL_ROW;
  const place = layOut(model, leaves, row, gap);
  const svg = byId("tree");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.setAttribute("aria-label", treeInWords(model, route));
  const mass = (node) => (route ? node.leaves.reduce((sum, leaf) => sum + route.leaf_probabilities[leaf], 0) : 0);
  const nodes = model.nodes.map((node) => ({ node, state: stateOf(model, node, route), mass: mass(node), ...place[node.index] }));
  const branches = nodes.filter(({ node }) => node.parent !== null).sort((a, b) => rank(a.state) - rank(b.state));
  const served = route ? levelsOf(model, servingExpert(model, route)) : [];
  const labels = LEFT + gap * (levels - 1) + 18;
  svg.replaceChildren(
    ...(route && route.expert !== null ? [drawDomain(model.nodes[route.node], leaves, row, labels)] : []),
    ...branches.map((own) => drawBranch(own, nodes[own.node.parent], route)),
    ...nodes.map((own) => drawNode(own, model, route, onExpert)),
    ...leaves.map((leaf, number) => drawLeaf(nodes[leaf.index], number, route, labels, mostSamples)),
    ...model.groups.map((_, level) => drawLevel(level, levels, LEFT + gap * level, height - LEVEL_ROW + 24, route, served)),
    makeSvg("text", { class: "caption", x: WIDTH, y: height - LEVEL_ROW + 24, "text-anchor": "end" }, route ? "likely groups, and how fine to go" : "training samples of each group"),
  );
}

/**
 * Lists the experts, the chosen one first, and which of them have been tried.
 * @param {Model} model
 * @param {Route} route The route that the router took by itself.
 * @param {number | null} shown The expert whose result is on the screen; null for the photo itself.
 * @param {boolean} all Whether to list all of them.
 * @param {(expert: number | null) => string | null} gain What an expert gained, if that is known.
 * @param {(expert: number | null) => void} onExpert
 */
export function listExperts(model, route, shown, all, gain, onExpert) {
  const shares = expertShares(route);
  const others = [...shares].filter(([expert]) => expert !== route.expert).sort((a, b) => b[1] - a[1]).map(([expert]) => expert);
  const first = others.slice(0, NUM_SHOWN - 1);
  const kept = [...first, 0, shown].filter((expert, index, list) => expert !== route.expert && list.indexOf(expert) === index);
  const list = [route.expert, ...(all ? others : kept)];
  const [group, focused] = [byId("experts"), document.activeElement?.closest("#experts button")];
  group.replaceChildren(...list.map((expert) => makeChoice(model, route, expert, shares.get(expert) ?? 0, expert === shown, gain(expert), onExpert)));
  // The buttons are new ones: whoever came to one by the keyboard goes on from it.
  if (focused) (group.querySelector(`[data-expert="${focused.dataset.expert}"]`) ?? group.querySelector("[aria-pressed=true]"))?.focus({ preventScroll: true });
  const more = byId("more-experts");
  more.hidden = list.length >= shares.size && !all;
  more.textContent = all ? "Fewer" : `All ${model.experts.length} experts`;
}

function makeChoice(model, route, expert, share, isShown, gain, onExpert) {
  const levels = levelsOf(model, expert);
  const name = expert === null ? "left as it is" : describeExpert(model, expert);
  const bar = make("i");
  bar.style.width = `${100 * share}%`;
  const note = expert === route.expert ? "the router's choice" : expert === 0 ? "one for all" : `level ${levels.join(" and ")}`;
  const button = make(
    "button", { type: "button", "aria-pressed": String(isShown), "data-expert": expert ?? "none" },
    make("span", { class: "name" }, make("b", {}, name), make("small", {}, expert === null ? note : `#${expert} · ${note}`)),
    make("span", { class: "track" }, bar),
    make("span", { class: `share ${{ "+": "good", "−": "bad" }[gain?.[0]] ?? ""}` }, gain ?? percent(share)),
  );
  button.addEventListener("click", () => onExpert(expert));
  return button;
}

/**
 * The levels on which an expert serves a node: several, where a group was not cut further.
 * @param {Model} model
 * @param {number | null} expert
 * @returns {number[]}
 */
export function levelsOf(model, expert) {
  return [...new Set(model.nodes.filter((node) => node.expert === expert).map((node) => node.level))];
}

/** Where each node stands: leaves below each other, the others in the middle of their children. */
function layOut(model, leaves, row, gap) {
  const y = new Map(leaves.map((leaf, number) => [leaf.index, TOP + row * (number + 0.5)]));
  for (const node of [...model.nodes].reverse()) {
    if (node.children.length) y.set(node.index, (y.get(node.children[0]) + y.get(node.children.at(-1))) / 2);
  }
  return model.nodes.map((node) => ({ x: LEFT + gap * node.level, y: y.get(node.index) }));
}

/** On the way, beyond where it stopped towards the likeliest leaf, or off it. A photo left alone takes none. */
function stateOf(model, node, route) {
  if (!route || !node.leaves.includes(route.leaf)) return "off";
  return route.expert !== null && node.level <= route.level ? "taken" : "beyond";
}

function rank(state) {
  return ["off", "beyond", "taken"].indexOf(state);
}

function drawBranch(own, parent, route) {
  const middle = (parent.x + own.x) / 2;
  const width = route ? (own.state === "beyond" ? 2 : 1.2 + 5 * own.mass) : 1.6;
  return makeSvg("path", {
    class: `branch ${own.state}`,
    d: `M${parent.x},${parent.y}C${middle},${parent.y} ${middle},${own.y} ${own.x},${own.y}`,
    "stroke-width": width.toFixed(2),
  });
}

function drawNode({ node, state, x, y, mass }, model, route, onExpert) {
  const isStop = route !== null && route.expert !== null && node.index === route.node;
  const words = `expert ${node.expert}: ${describeExpert(model, node.expert)}, ${node.num_samples.toLocaleString("en")} training samples`;
  const group = makeSvg("g", onExpert ? { class: "can" } : {}, makeSvg("title", {}, route ? `${words}, ${percent(mass)} of the probability passes here` : words));
  if (isStop) group.append(makeSvg("circle", { class: "halo", cx: x, cy: y, r: 15 }));
  group.append(makeSvg("circle", { class: `node ${state}`, cx: x, cy: y, r: isStop ? 10 : 5 }));
  if (isStop) group.append(makeSvg("text", { class: "number", x, y: y + 4, "text-anchor": "middle" }, String(node.expert)));
  group.append(makeSvg("circle", { cx: x, cy: y, r: 12, fill: "transparent" }));
  if (onExpert) group.addEventListener("click", () => onExpert(node.expert));
  return group;
}

/** The leaves that the chosen expert was trained for. */
function drawDomain(node, leaves, row, left) {
  const own = leaves.map((leaf, number) => (node.leaves.includes(leaf.leaves[0]) ? number : -1)).filter((number) => number >= 0);
  const height = row * (own.at(-1) - own[0] + 1);
  return makeSvg("rect", { class: "domain", x: left - 8, y: TOP + row * own[0], width: WIDTH - left + 8, height, rx: 7 });
}

/** A leaf's name and its probability; without a route, how much it was trained on. */
function drawLeaf({ node, x, y }, number, route, left, mostSamples) {
  const isChosen = route !== null && number === route.leaf;
  const words = describeGroup(node.holds);
  const short = words.length > 14 ? `${words.slice(0, 13)}…` : words;
  const share = route ? route.leaf_probabilities[number] : node.num_samples / mostSamples;
  const [start, width] = [left + LABEL, WIDTH - left - LABEL - SHARE];
  return makeSvg(
    "g", isChosen ? { class: "taken" } : {},
    makeSvg("text", { x: left, y: y + 4 }, short),
    makeSvg("rect", { class: "track", x: start, y: y - 3.5, width, height: 7, rx: 3.5 }),
    makeSvg("rect", { class: "bar", x: start, y: y - 3.5, width: Math.max(width * share, 2), height: 7, rx: 3.5 }),
    makeSvg("text", { x: WIDTH - 6, y: y + 4, "text-anchor": "end" }, route ? percent(share) : node.num_samples.toLocaleString("en")),
  );
}

/** The probability of a level; those that the chosen expert serves stand out. */
function drawLevel(level, levels, x, y, route, served) {
  const name = level === 0 ? "coarse" : level === levels - 1 ? "fine" : "";
  const anchor = level === 0 ? { x: x - 8, "text-anchor": "start" } : { x, "text-anchor": "middle" };
  if (!route) return makeSvg("text", { ...anchor, class: "level", y }, name);
  return makeSvg(
    "g", served.includes(level) ? { class: "taken" } : {},
    makeSvg("text", { ...anchor, class: "level", y }, percent(route.level_probabilities[level])),
    makeSvg("text", { ...anchor, class: "level", y: y + 14 }, name || `level ${level}`),
  );
}

function treeInWords(model, route) {
  const size = `a tree of ${model.experts.length} experts on ${model.groups.length} levels`;
  if (!route) return `The model: ${size}`;
  const path = route.path.map((node) => (node === 0 ? "everything" : describeGroup(model.nodes[node].holds)));
  return `The way ${route.expert === null ? "that was not taken " : ""}through ${size}: ${path.join(", then ")}`;
}
