/** Taking the result away: downloads, and the same request by curl. */

import { asCurl, Problem, restoreFile } from "./api.js";
import { announce, byId, duration, save } from "./dom.js";
import { restoreAsJob } from "./jobs.js";
import { isPlainPng } from "./png.js";
import { mix, readStrength } from "./strength.js";
import { isLarge } from "./work.js";

const FORMATS = {
  "image/jpeg": "JPEG", "image/webp": "WebP", "image/avif": "AVIF", "image/heic": "HEIC", "image/tiff": "TIFF",
};

/**
 * @typedef {import("./work.js").Work} Work
 *
 * @typedef {object} Page What the page lends to the actions.
 * @property {import("./viewer.js").Viewer} viewer
 * @property {() => Work} work The photo on the page, of which a restoration is shown.
 * @property {() => import("./api.js").Watcher} watch Stops what goes on, and watches what comes.
 * @property {(error: unknown) => void} tell Shows what went wrong.
 */

/** @type {Page} */
let page;
/** Who waits for the file that was asked for last. @type {import("./api.js").Watcher | null} */
let latest = null;

/** @param {Page} own */
export function setUpActions(own) {
  page = own;
  byId("download").addEventListener("click", download);
  byId("download-png").addEventListener("click", downloadPng);
  byId("curl").addEventListener("click", copyCurl);
}

/**
 * Offers the restoration that is shown, and says how long it took.
 * @param {Work} work
 */
export function showActions(work) {
  const variant = work.shown;
  const format = FORMATS[work.file.type];
  const stem = work.file.name.replace(/\.\w+$/, "");
  const [own, png] = [byId("download"), byId("download-png")];
  showWords(work);
  own.download = format ? `restored-${work.file.name}` : `restored-${stem}.png`;
  own.href = variant.url;
  png.hidden = !format;
  png.download = `restored-${stem}.png`;
  png.href = variant.url;
  const isLeft = variant.result.route.expert === null;
  own.hidden = isLeft;
  png.hidden ||= isLeft;
  byId("curl-text").hidden = true;
  byId("curl").textContent = "Copy as curl";
  const { seconds, num_tiles: numTiles } = variant.result;
  const stages = ["queue", "route", "restore"].filter((stage) => seconds[stage] >= 0.0005);
  byId("timings").textContent = [...stages.map((stage) => `${stage} ${duration(seconds[stage])}`), ...(numTiles > 1 ? [`${numTiles} tiles`] : [])].join(" · ");
}

/** @param {Work} work */
function showWords(work) {
  byId("download").textContent = `Download ${FORMATS[work.file.type] ?? "PNG"}`;
  byId("download-png").textContent = "PNG, without loss";
}

/**
 * At full strength the link has the endpoint's own bytes. Below it the pictures are mixed here
 * where that gives the same file, and else by the endpoint: a canvas has 8 bits and no metadata.
 */
async function downloadPng(event) {
  const strength = readStrength();
  if (strength === 1) return;
  event.preventDefault();
  const link = event.currentTarget;
  const work = page.work();
  const files = [work.file, work.shown.result.image];
  const isSame = (await Promise.all(files.map(isPlainPng))).every(Boolean);
  const blob = isSame ? await mixed(strength) : null;
  if (work !== page.work()) return;
  if (blob) save(blob, link.download);
  else await fetchFile(link, { format: "png" });
}

/** @returns {Promise<Blob | null>} Null where the pictures are larger than a canvas. */
function mixed(strength) {
  try {
    const canvas = mix(page.viewer.input, page.viewer.after, strength);
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  } catch {
    return Promise.resolve(null);
  }
}

/** The original format is made by the endpoint, which keeps the photo's metadata. */
async function download(event) {
  if (!FORMATS[page.work().file.type]) return downloadPng(event);
  event.preventDefault();
  await fetchFile(event.currentTarget, {});
}

/**
 * Has the endpoint make the file that is shown, in the strength that is shown.
 * @param {any} link The link to be pressed for it.
 * @param {import("./api.js").Options} more
 */
async function fetchFile(link, more) {
  const work = page.work();
  const { expert } = work.shown.result.route;
  const strength = readStrength();
  const options = { ...work.shown.options, expert, ...(strength !== 1 && { strength }), ...more };
  const watcher = page.watch();
  showWords(work);
  link.textContent = "Preparing …";
  latest = watcher;
  try {
    const { image, model } = await (isLarge(work) ? restoreAsJob(work.file, options, watcher).then(({ image, route }) => ({ image, model: route.model })) : restoreFile(work.file, options, watcher));
    // The same expert of another model would be a file that nobody has seen.
    if (model && model !== work.shown.result.route.model) throw new Problem(503, "Another model has taken over", "Try again to see what it makes of the photo; then download that.");
    save(image, link.download);
  } catch (error) {
    if (!watcher.signal.aborted) page.tell(error);
  } finally {
    if (latest === watcher) showWords(work);
  }
}

async function copyCurl() {
  const { file, shown } = page.work();
  const strength = readStrength();
  const command = asCurl(file, strength === 1 ? shown.options : { ...shown.options, strength });
  byId("curl-text").textContent = command;
  byId("curl-text").hidden = false;
  try {
    await navigator.clipboard.writeText(command);
    byId("curl").textContent = "Copied";
    announce("Copied.");
  } catch {
    // Without a secure context there is no clipboard; the command stands there to be selected.
    getSelection().selectAllChildren(byId("curl-text"));
  }
}
