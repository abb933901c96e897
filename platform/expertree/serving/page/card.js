/** The card beside the photo: the model, or what it saw in the photo and which expert restored it. */

import { byId, capitalised, listing, make, percent } from "./dom.js";
import { showLayers } from "./layers.js";
import { describeExpert, drawTree, inWords, isSingle, levelsOf, listExperts, MUCH, whyAsIs } from "./route.js";
import { gainOf } from "./work.js";

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {import("./work.js").Work} Work
 */

/** What the page says of a tree, also after it has served a single network. */
const [ABOUT, LABEL] = [byId("about").textContent, byId("card").getAttribute("aria-label")];

let listsAll = false;

/**
 * Shows the model by itself; without one, what the card shows stays.
 * @param {Model | null} model
 */
export function showModel(model) {
  if (!model) return;
  byId("choices").hidden = byId("instruct").hidden = true;
  showLayers([]);
  byId("card-eyebrow").textContent = "The model";
  byId("tree").toggleAttribute("hidden", isSingle(model));
  if (isSingle(model)) return showNetwork(model);
  byId("about").textContent = ABOUT;
  byId("card").setAttribute("aria-label", LABEL);
  const experts = `${model.experts.length} experts`;
  byId("model").textContent = `${experts} on ${model.groups.length} levels · model ${model.id}`;
  byId("card-title").textContent = `A tree of ${experts}`;
  byId("card-lead").textContent = "Each dot is a network trained on one group of spoiled pictures: all of them on the left, ever narrower groups to the right. One expert runs for each photo.";
  drawTree(model, null);
}

/** A model without a tree. */
function showNetwork(model) {
  byId("model").textContent = `one network · model ${model.id}`;
  byId("about").textContent = "Noise, blur, haze, rain, too little light, or several at once: one network restores them all.";
  byId("card").setAttribute("aria-label", "What was done");
  byId("card-title").textContent = "One network";
  byId("card-lead").textContent = `${networkInWords(model)}, for every kind of damage that it was trained on.`;
}

/**
 * Shows the way to the restoration that is on the screen, and the experts that could be tried.
 * @param {Model} model
 * @param {Work} work With a restoration that is shown.
 * @param {(expert: number | null) => void} onExpert Called with an expert that somebody chooses; null for none.
 */
export function showRoute(model, work, onExpert) {
  const { result, options } = work.shown;
  const { route } = result;
  const first = work.variants[0].result.route;
  const isOwn = route === first;
  const seen = inWords(first.degradations).filter(([, share]) => share >= MUCH).slice(0, 3);
  byId("card-eyebrow").textContent = "What the model saw";
  byId("card-title").textContent = capitalised(listing(seen.map(([name]) => name)) || "Nothing that it knows well");
  byId("as-is-why").textContent = whyAsIs(model, route);
  if (isSingle(model)) showSingle(model, route);
  else if (route.expert === null) byId("card-lead").replaceChildren("Left as it is, with confidence ", make("b", {}, percent(route.confidence)), ". If you insist, the dotted way is taken.");
  else byId("card-lead").replaceChildren(
    "Restored by expert ", make("b", {}, `#${route.expert} (${describeExpert(model, route.expert)})`),
    ` ${levelsInWords(model, route.expert)}`,
    ...(isOwn || !("expert" in options) ? [", with confidence ", make("b", {}, percent(route.confidence)), "."] : [", as you asked."]),
  );
  if (route.expert === null) byId("card-title").textContent = "Nothing worth mending";
  showLayers(result.layers);
  byId("instruct").hidden = false;
  byId("choices").hidden = isSingle(model);
  if (isSingle(model)) return;
  drawTree(model, route, onExpert);
  showExperts(model, work, onExpert);
}

/**
 * Lists all experts, or from all only the first ones again.
 * @param {Model} model
 * @param {Work} work With a restoration that is shown.
 * @param {(expert: number | null) => void} onExpert
 */
export function toggleExperts(model, work, onExpert) {
  listsAll = !listsAll;
  showExperts(model, work, onExpert);
}

function showExperts(model, work, onExpert) {
  const first = work.variants[0].result.route;
  listExperts(model, first, work.shown.result.route.expert, listsAll, (expert) => gainOf(work, expert), onExpert);
}

function showSingle(model, route) {
  const sure = [", with confidence ", make("b", {}, percent(route.confidence)), "."];
  byId("card-lead").replaceChildren(...(route.expert === null ? ["Left as it is", ...sure] : [`Restored by the one network of this model (${networkInWords(model)}).`]));
}

/** The network of a model that has one. */
function networkInWords(model) {
  const { backbone, num_parameters: numParameters } = model.experts[0];
  const millions = numParameters / 1e6;
  return `${backbone}, ${millions < 10 ? millions.toFixed(2) : millions.toFixed(0)} million parameters`;
}

function levelsInWords(model, expert) {
  const levels = levelsOf(model, expert);
  if (levels.length > 1) return `for levels ${listing(levels.map(String))}`;
  if (levels[0] === 0) return "on the coarsest level";
  return levels[0] === model.groups.length - 1 ? "on the finest level" : `on level ${levels[0]}`;
}
