/** What somebody says of the photo: names of degradations, or words where the endpoint reads them. */

import { byId, make } from "./dom.js";
import { readable } from "./route.js";

/**
 * Makes a chip for each name; degrees, two words each, stand apart.
 * @param {string[]} names What the model knows.
 * @param {boolean} freeText Whether the endpoint understands sentences.
 */
export function setUpInstruction(names, freeText) {
  const exact = names.filter((name) => name.includes(" "));
  byId("names").replaceChildren(...names.filter((name) => !exact.includes(name)).map(makeChip));
  byId("degree-names").replaceChildren(...exact.map(makeChip));
  byId("degrees").hidden = !exact.length;
  byId("text-row").hidden = !freeText;
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
