/** Small things that every part of the page needs. */

/**
 * The element with an id, which the page has.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element '${id}'`);
  return element;
}

/**
 * Makes an element. Attributes that are null, undefined or false are left out.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * Makes an element of a drawing.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/**
 * Says something to those who listen to the page.
 * @param {string} sentence
 */
export function announce(sentence) {
  byId("live").textContent = sentence;
}

/**
 * A share in words: more digits where it is small.
 * @param {number} share
 * @returns {string}
 */
export function percent(share) {
  const digits = share < 0.0995 && share >= 0.0005 ? 1 : 0;
  return `${(100 * share).toFixed(digits)}\u00a0%`;
}

/**
 * A list in words: `snow, rain and haze`.
 * @param {string[]} words
 * @returns {string}
 */
export function listing(words) {
  return [words.slice(0, -1).join(", "), ...words.slice(-1)].filter(Boolean).join(" and ");
}

/**
 * @param {string} text
 * @returns {string}
 */
export function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;
}

/**
 * The size of a file in words.
 * @param {number} numBytes
 * @returns {string}
 */
export function size(numBytes) {
  return numBytes < 1e6 ? `${Math.max(1, Math.round(numBytes / 1e3))} kB` : `${(numBytes / 1e6).toFixed(1)} MB`;
}

/**
 * Has the browser keep a file.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * @param {Element} element
 * @param {Record<string, unknown>} attributes
 * @param {(Node | string)[]} children
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children);
  return element;
}
