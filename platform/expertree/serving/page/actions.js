/** Taking the result away: downloads, and the same request by curl. */

import { asCurl, restoreFile } from "./api.js";
import { announce, byId, duration, save } from "./dom.js";
import { restoreAsJob } from "./jobs.js";
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
  own.textContent = `Download ${format ?? "PNG"}`;
  own.download = format ? `restored-${work.file.name}` : `restored-${stem}.png`;
  own.href = variant.url;
  png.hidden = !format;
  png.textContent = "PNG, without loss";
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

/** At full strength the link has the endpoint's own bytes; else the pictures are mixed here. */
function downloadPng(event) {
  const strength = readStrength();
  if (strength === 1) return;
  event.preventDefault();
  const name = event.currentTarget.download;
  mix(page.viewer.input, page.viewer.after, strength).toBlob((blob) => save(blob, name), "image/png");
}

/** The original format is made by the endpoint, which keeps the photo's metadata. */
async function download(event) {
  const work = page.work();
  const format = FORMATS[work.file.type];
  if (!format) return downloadPng(event);
  event.preventDefault();
  const { expert } = work.shown.result.route;
  const strength = readStrength();
  const options = { ...work.shown.options, expert, ...(strength !== 1 && { strength }) };
  const own = byId("download");
  const watcher = page.watch();
  own.textContent = "Preparing …";
  try {
    save(isLarge(work) ? (await restoreAsJob(work.file, options, watcher)).image : await restoreFile(work.file, options, watcher), own.download);
  } catch (error) {
    if (!watcher.signal.aborted) page.tell(error);
  } finally {
    own.textContent = `Download ${format}`;
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
