/** The photo on the page, and what has been made of it. */

/** Photos larger than this are restored as jobs, whose tiles can be watched. */
const LARGE_PX = 1_500_000;

/**
 * @typedef {object} Variant One restoration of the photo.
 * @property {import("./api.js").Result} result
 * @property {string} url
 * @property {import("./api.js").Options} options
 * @property {number | null} psnr
 *
 * @typedef {object} Work The photo on the page.
 * @property {File} file
 * @property {string} url
 * @property {ImageData | null} clean
 * @property {string | null} cleanUrl
 * @property {number} numPixels
 * @property {number | null} psnr
 * @property {Variant[]} variants The router's own choice first.
 * @property {Variant | null} shown
 * @property {boolean} isSeen Whether this browser can show the file.
 */

/**
 * A photo that nothing has been done with yet.
 * @param {File} file
 * @param {ImageData | null} clean The picture before it was spoiled, if it is known.
 * @returns {Work}
 */
export function makeWork(file, clean) {
  return { file, url: URL.createObjectURL(file), clean, cleanUrl: null, numPixels: 0, psnr: null, variants: [], shown: null, isSeen: false };
}

/**
 * Gives back the memory of its pictures.
 * @param {Work} work
 */
export function revokeUrls(work) {
  for (const url of [work.url, work.cleanUrl, ...work.variants.map((variant) => variant.url)]) if (url) URL.revokeObjectURL(url);
}

/**
 * Forgets what has been made of the photo.
 * @param {Work} work
 */
export function forgetVariants(work) {
  for (const { url } of work.variants) URL.revokeObjectURL(url);
  [work.variants, work.shown] = [[], null];
}

/**
 * @param {Work} work
 * @returns {boolean}
 */
export function isLarge(work) {
  return work.isSeen ? work.numPixels > LARGE_PX : work.file.size > LARGE_PX;
}

/**
 * What an expert has made of the photo, if it has been asked.
 * @param {Work} work
 * @param {number | null} expert Null for the photo left as it is.
 * @returns {Variant | undefined}
 */
export function variantOf(work, expert) {
  return work.variants.find((variant) => variant.result.route.expert === expert);
}

/**
 * What an expert has gained, in words, if that is known.
 * @param {Work} work
 * @param {number | null} expert
 * @returns {string | null}
 */
export function gainOf(work, expert) {
  const variant = variantOf(work, expert);
  if (!variant || variant.psnr === null) return null;
  const gain = variant.psnr - work.psnr;
  const sign = Math.abs(gain) < 0.05 ? "±" : gain < 0 ? "−" : "+";
  return `${sign}${Math.abs(gain).toFixed(1)} dB`;
}
