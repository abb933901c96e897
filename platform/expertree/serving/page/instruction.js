/** What somebody says of the photo: names of degradations, or words where the endpoint reads them. */

import { byId, make } from "./dom.js";
import { readable } from "./route.js";

/**
 * Makes a chip for each name; degrees, two words each, stand apart.
 * @param {import("./api.js").Model} model
 * @param {boolean} freeText Whether the endpoint understands sentences.
 */
export function setUpInstruction(model, freeText) {
  const { names } = model;
  const exact = names.filter((name) => name.includes(" "));
  byId("names").replaceChildren(...makeChips(names.filter((name) => !exact.includes(name))));
  byId("degree-names").replaceChildren(...makeChips(exact));
  byId("degrees").hidden = !exact.length;
  byId("text-row").hidden = !freeText;
  byId("text-label").textContent = model.takes_sentences ? "In your own words; the network is told them as they are" : "In your own words, in place of the names";
  byId("confidence-label").hidden = byId("confidence").hidden = model.groups.length === 1;
}

/**
 * The options that the form asks for; words stand above names.
 * @returns {import("./api.js").Options}
 */
export function readInstruction() {
  const named = [...document.querySelectorAll("input[name=instruction]:checked")].flatMap((input) => input.value.split(","));
  const words = byId("text").value.trim();
  const instruction = words ? [words] : named;
  const confidence = byId("confidence").value;
  return { ...(instruction.length && { instruction }), ...(confidence && { confidence }) };
}

/** One for each word: a degradation that the model knows by two names has one, for both. */
function makeChips(names) {
  return [...new Set(names.map(readable))].map((words) => {
    const own = names.filter((name) => readable(name) === words);
    return make("label", {}, make("input", { type: "checkbox", name: "instruction", value: own.join(",") }), make("span", {}, words));
  });
}
