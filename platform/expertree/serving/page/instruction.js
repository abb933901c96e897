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
  byId("names").replaceChildren(...names.filter((name) => !exact.includes(name)).map(makeChip));
  byId("degree-names").replaceChildren(...exact.map(makeChip));
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
  const named = [...document.querySelectorAll("input[name=instruction]:checked")].map((input) => input.value);
  const words = byId("text").value.trim();
  const instruction = words ? [words] : named;
  const confidence = byId("confidence").value;
  return { ...(instruction.length && { instruction }), ...(confidence && { confidence }) };
}

function makeChip(name) {
  const box = make("input", { type: "checkbox", name: "instruction", value: name });
  return make("label", {}, box, make("span", {}, readable(name)));
}
