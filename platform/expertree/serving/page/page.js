/** The page: takes a photo, has it restored, shows what was done. */

import { asCurl, keepKey, Problem, readModel, restore, restoreAsJob, restoreFile } from "./api.js";
import { announce, byId, duration, listing, make, percent, save, size } from "./dom.js";
import { encode, EXAMPLES, makeExample, measurePsnr } from "./examples.js";
import { readInstruction, setUpInstruction } from "./instruction.js";
import { listenForPhotos } from "./intake.js";
import { showLayers } from "./layers.js";
import { showProgress, showTiles } from "./progress.js";
import { describeExpert, drawTree, inWords, isSingle, levelsOf, listExperts, MUCH, servingExpert, whyAsIs } from "./route.js";
import { mix, readStrength, resetStrength, setUpStrength } from "./strength.js";
import { setUpTheme } from "./switch.js";
import { addToTray, isTrayEmpty, setUpTray } from "./tray.js";
import { Viewer } from "./viewer.js";

/** Photos larger than this are restored as jobs, whose tiles can be watched. */
const LARGE_PX = 1_500_000;
const FORMATS = {
  "image/jpeg": "JPEG", "image/webp": "WebP", "image/avif": "AVIF", "image/heic": "HEIC", "image/tiff": "TIFF",
};

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

const viewer = new Viewer();
/** @type {import("./api.js").Model | null} */
let model = null;
/** @type {Work | null} */
let work = null;
let stop = new AbortController();
let listsAll = false;
/** What "try again" does. @type {() => void} */
let repeat;

// Taking a photo --------------------------------------------------------------------------

/**
 * @param {File} file
 * @param {ImageData | null} [clean] The picture before it was spoiled, if it is known.
 */
async function take(file, clean = null) {
  stop.abort();
  forget();
  setState("busy");
  work = { file, url: URL.createObjectURL(file), clean, cleanUrl: null, numPixels: 0, psnr: null, variants: [], shown: null, isSeen: false };
  const own = work;
  byId("drop").hidden = true;
  byId("viewer").hidden = false;
  resetStrength();
  own.isSeen = await viewer.showBefore(own.url);
  if (own !== work) return;
  own.numPixels = own.isSeen ? viewer.width * viewer.height : 0;
  if (clean) {
    own.psnr = measurePsnr(viewer.before, clean);
    own.cleanUrl = URL.createObjectURL(await encode(clean));
  }
  byId("size").textContent = own.isSeen ? `${viewer.width} × ${viewer.height}` : "";
  showSide("as it was");
  await run({});
}

/**
 * One photo is shown with its route; several come onto the tray, and later ones too.
 * @param {import("./intake.js").Given[]} photos
 * @param {string} leftOut A sentence on other files.
 */
function takeGiven(photos, leftOut) {
  byId("left-out").textContent = leftOut;
  byId("left-out").hidden = !leftOut;
  if (leftOut) announce(leftOut);
  if (photos.length === 1 && isTrayEmpty()) return take(photos[0].file);
  if (!photos.length) return;
  const isFirst = isTrayEmpty();
  addToTray(photos);
  if (!isFirst) return;
  stop.abort();
  startAgain();
}

function forget() {
  if (!work) return;
  for (const url of [work.url, work.cleanUrl, ...work.variants.map((variant) => variant.url)]) if (url) URL.revokeObjectURL(url);
  for (const button of document.querySelectorAll(":is(#examples, #tray-photos) [aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
  work = null;
}

/** @param {"empty" | "many" | "busy" | "done" | "failed"} state */
function setState(state) {
  document.body.dataset.state = state;
  byId("card").inert = state === "busy";
  byId("progress").hidden = state !== "busy";
  byId("error").hidden = state !== "failed";
  const [isLeft, isShown] = [work?.shown?.result.route.expert === null, work?.shown && state !== "busy"];
  byId("actions").hidden = !isShown;
  byId("as-is").hidden = !isShown || !isLeft;
  byId("strength-row").hidden = !isShown || isLeft || !work.isSeen;
}

// Restoring -------------------------------------------------------------------------------

/** @param {import("./api.js").Options} options */
async function run(options) {
  const own = work;
  if (!own) return;
  const watcher = makeWatcher();
  repeat = () => run(options);
  setState("busy");
  showProgress("Uploading", null);
  announce(isLarge(own) ? "Restoring a large photo, tile by tile." : "Restoring.");
  try {
    await loadModel();
    const result = await (isLarge(own) ? restoreAsJob : restore)(own.file, { ...options, format: "png" }, watcher);
    if (own !== work) return;
    await addVariant(own, options, result);
  } catch (error) {
    if (own === work && !watcher.signal.aborted) showProblem(error);
  }
}

/** @param {Work} own */
function isLarge(own) {
  return own.isSeen ? own.numPixels > LARGE_PX : own.file.size > LARGE_PX;
}

/** Stops what goes on, and watches what comes. */
function makeWatcher() {
  stop.abort();
  stop = new AbortController();
  return {
    signal: stop.signal,
    onUpload: (share) => (share < 1 ? showProgress("Uploading", share) : showProgress("Looking and restoring", null)),
    onTiles: (state, done, total) => (state === "queued" ? showProgress("In the queue", null) : showTiles(done, total)),
    onWait: (seconds) => showProgress(`The endpoint is busy; trying again in ${Math.ceil(seconds)} s`, null),
  };
}

/**
 * @param {Work} own
 * @param {import("./api.js").Options} options
 * @param {import("./api.js").Result} result
 */
async function addVariant(own, options, result) {
  // Another model may have taken over meanwhile: its tree is another one.
  if (result.route.model !== model.digest) {
    model = null;
    await loadModel();
  }
  const variant = { result, options, url: URL.createObjectURL(result.image), psnr: null };
  own.variants.push(variant);
  await showVariant(variant);
  const { route } = result;
  if (route.expert === null) return announce(`This photograph is better left as it is. ${whyAsIs(model, route)}`);
  if (isSingle(model)) return announce("Restored.");
  announce(`Restored by expert ${route.expert}, ${describeExpert(model, route.expert)}, with confidence ${percent(route.confidence)}.`);
}

// Showing ---------------------------------------------------------------------------------

/** @param {Variant} variant */
async function showVariant(variant) {
  const own = work;
  await viewer.showAfter(variant.url);
  if (own !== work) return;
  if (own.clean) variant.psnr ??= measurePsnr(viewer.after, own.clean);
  own.shown = variant;
  setState("done");
  byId("size").textContent = `${viewer.width} × ${viewer.height}`;
  showStrength(readStrength());
  if (variant.result.route.expert === null && own.isSeen) viewer.showAlone();
  setUpSides();
  showRoute(variant);
  showActions(variant);
}

/**
 * Mixes what is on the screen; the pictures are there already.
 * @param {number} strength
 */
function showStrength(strength) {
  const variant = work.shown;
  const isWhole = strength === 1 || byId("strength-row").hidden;
  viewer.mix(isWhole ? 1 : strength);
  let psnr = variant.psnr;
  if (work.clean && !isWhole) psnr = measurePsnr(mix(viewer.input, viewer.after, strength), work.clean);
  byId("after-tag").replaceChildren(isWhole ? "restored" : "mixed", ...gainTag(psnr));
}

function gainTag(psnr) {
  return psnr === null ? [] : [make("b", {}, `${psnr.toFixed(1)} dB`)];
}

/** What the left side shows: the photo as it was, or the clean one where it is known. */
function setUpSides() {
  const sides = byId("sides");
  sides.hidden = !work.cleanUrl;
  if (sides.hidden || sides.childElementCount) return;
  sides.replaceChildren(...["as it was", "clean"].map((side) => {
    const button = make("button", { type: "button", "aria-pressed": String(side === "as it was") }, side);
    button.addEventListener("click", () => showSide(side));
    return button;
  }));
}

async function showSide(side) {
  const isClean = side === "clean";
  for (const button of byId("sides").children) button.setAttribute("aria-pressed", String(button.textContent === side));
  if (viewer.before.src !== (isClean ? work.cleanUrl : work.url)) await viewer.replaceBefore(isClean ? work.cleanUrl : work.url);
  byId("before-tag").replaceChildren(side, ...(isClean ? [] : gainTag(work.psnr)));
}

/** @param {Variant} variant */
function showRoute(variant) {
  const { route } = variant.result;
  const first = work.variants[0].result.route;
  const isOwn = route === first;
  const seen = inWords(first.degradations).filter(([, share]) => share >= MUCH).slice(0, 3);
  byId("card-eyebrow").textContent = "What the model saw";
  byId("card-title").textContent = capitalised(listing(seen.map(([name]) => name)) || "Nothing that it knows well");
  byId("as-is-why").textContent = whyAsIs(model, route);
  if (isSingle(model)) showSingle(route);
  else if (route.expert === null) byId("card-lead").replaceChildren("Left as it is, with confidence ", make("b", {}, percent(route.confidence)), ". If you insist, the dotted way is taken.");
  else byId("card-lead").replaceChildren(
    "Restored by expert ", make("b", {}, `#${route.expert} (${describeExpert(model, route.expert)})`),
    ` ${levelsInWords(route.expert)}`,
    ...(isOwn || !("expert" in variant.options) ? [", with confidence ", make("b", {}, percent(route.confidence)), "."] : [", as you asked."]),
  );
  if (route.expert === null) byId("card-title").textContent = "Nothing worth mending";
  showLayers(variant.result.layers);
  byId("instruct").hidden = false;
  byId("choices").hidden = isSingle(model);
  if (isSingle(model)) return;
  drawTree(model, route, tryExpert);
  showExperts();
}

/** @param {import("./api.js").Route} route */
function showSingle(route) {
  const sure = [", with confidence ", make("b", {}, percent(route.confidence)), "."];
  byId("card-lead").replaceChildren(...(route.expert === null ? ["Left as it is", ...sure] : [`Restored by the one network of this model (${networkInWords()}).`]));
}

/** The network of a model that has one. */
function networkInWords() {
  const { backbone, num_parameters: numParameters } = model.experts[0];
  const millions = numParameters / 1e6;
  return `${backbone}, ${millions < 10 ? millions.toFixed(2) : millions.toFixed(0)} million parameters`;
}

/** @param {number} expert */
function levelsInWords(expert) {
  const levels = levelsOf(model, expert);
  if (levels.length > 1) return `for levels ${listing(levels.map(String))}`;
  if (levels[0] === 0) return "on the coarsest level";
  return levels[0] === model.groups.length - 1 ? "on the finest level" : `on level ${levels[0]}`;
}

function showExperts() {
  const first = work.variants[0].result.route;
  listExperts(model, first, work.shown.result.route.expert, listsAll, gainOf, tryExpert);
}

function gainOf(expert) {
  const variant = work.variants.find((own) => own.result.route.expert === expert);
  if (!variant || variant.psnr === null) return null;
  const gain = variant.psnr - work.psnr;
  const sign = Math.abs(gain) < 0.05 ? "±" : gain < 0 ? "−" : "+";
  return `${sign}${Math.abs(gain).toFixed(1)} dB`;
}

/** @param {number | null} expert */
function tryExpert(expert) {
  const known = work.variants.find((variant) => variant.result.route.expert === expert);
  if (known) showVariant(known);
  else run({ expert });
}

/** Restores what was better left as it is. */
function insist() {
  const expert = servingExpert(model, work.shown.result.route);
  if (work.variants.some((variant) => variant.result.route.expert === expert)) tryExpert(expert);
  else run({ insist: true });
}

// Taking the result away ------------------------------------------------------------------

/** @param {Variant} variant */
function showActions(variant) {
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
  if (strengthShown() === 1) return;
  event.preventDefault();
  const name = event.currentTarget.download;
  mix(viewer.input, viewer.after, strengthShown()).toBlob((blob) => save(blob, name), "image/png");
}

const strengthShown = () => (byId("strength-row").hidden ? 1 : readStrength());

/** The original format is made by the endpoint, which keeps the photo's metadata. */
async function download(event) {
  const format = FORMATS[work.file.type];
  if (!format) return downloadPng(event);
  event.preventDefault();
  const { expert } = work.shown.result.route;
  const strength = strengthShown();
  const options = strength === 1 ? { expert } : { expert, strength };
  const own = byId("download");
  const watcher = makeWatcher();
  own.textContent = "Preparing …";
  try {
    save(isLarge(work) ? (await restoreAsJob(work.file, options, watcher)).image : await restoreFile(work.file, options, watcher), own.download);
  } catch (error) {
    if (!watcher.signal.aborted) showProblem(error);
  } finally {
    own.textContent = `Download ${format}`;
  }
}

async function copyCurl() {
  const strength = strengthShown();
  const command = asCurl(work.file, strength === 1 ? work.shown.options : { ...work.shown.options, strength });
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

// Trouble ---------------------------------------------------------------------------------

/** @param {unknown} error */
function showProblem(error) {
  const problem = error instanceof Problem ? error : new Problem(0, "The page has failed", String(error));
  setState("failed");
  byId("viewer").hidden = !work || !(work.isSeen || work.shown);
  byId("drop").hidden = !byId("viewer").hidden;
  if (!work?.shown) showModel();
  byId("error-title").textContent = problem.title;
  byId("error-detail").textContent = problem.detail;
  byId("error-file").textContent = work ? `${work.file.name}, ${size(work.file.size)}` : "";
  byId("key-form").hidden = problem.status !== 401;
  byId("again").hidden = ![0, 429, 503, 504].includes(problem.status);
}

// Examples --------------------------------------------------------------------------------

async function setUpExamples() {
  for (const example of EXAMPLES) {
    const { file, clean } = await makeExample(example);
    const image = make("img", { alt: "", src: URL.createObjectURL(file), width: clean.width, height: clean.height });
    const button = make("button", { type: "button", "aria-pressed": "false" }, make("span", { class: "frame" }, image), capitalised(example.name));
    button.addEventListener("click", () => {
      scrollTo({ top: 0 });
      take(file, clean);
      button.setAttribute("aria-pressed", "true");
    });
    byId("examples").append(make("li", {}, button));
  }
}

// Wiring ----------------------------------------------------------------------------------

function listen() {
  listenForPhotos(takeGiven);
  setUpTray((file) => {
    scrollTo({ top: 0 });
    take(file);
  }, (expert) => (model && !isSingle(model) ? `expert for ${describeExpert(model, expert)}` : "restored"), (problem, again) => {
    repeat = () => {
      if (work?.shown) setState("done");
      else startAgain();
      again();
    };
    showProblem(problem);
  });
  byId("cancel").addEventListener("click", () => {
    stop.abort();
    if (work?.shown) setState("done");
    else startAgain();
  });
  byId("again").addEventListener("click", () => repeat());
  byId("download").addEventListener("click", download);
  byId("download-png").addEventListener("click", downloadPng);
  byId("insist").addEventListener("click", insist);
  setUpStrength(showStrength);
  byId("curl").addEventListener("click", copyCurl);
  byId("instruct").addEventListener("submit", (event) => {
    event.preventDefault();
    run(readInstruction());
  });
  byId("more-experts").addEventListener("click", () => {
    listsAll = !listsAll;
    showExperts();
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(byId("key").value);
    byId("key").value = "";
    repeat();
  });
}

function startAgain() {
  forget();
  setState(isTrayEmpty() ? "empty" : "many");
  byId("viewer").hidden = true;
  byId("drop").hidden = !isTrayEmpty();
  showModel();
}

function showModel() {
  if (!model) return;
  byId("choices").hidden = byId("instruct").hidden = true;
  showLayers([]);
  byId("card-eyebrow").textContent = "The model";
  byId("tree").toggleAttribute("hidden", isSingle(model));
  if (isSingle(model)) return showNetwork();
  const experts = `${model.experts.length} experts`;
  byId("model").textContent = `${experts} on ${model.groups.length} levels · model ${model.id}`;
  byId("card-title").textContent = `A tree of ${experts}`;
  byId("card-lead").textContent = "Each dot is a network trained on one group of spoiled pictures: all of them on the left, ever narrower groups to the right. One expert runs for each photo.";
  drawTree(model, null);
}

/** A model without a tree. */
function showNetwork() {
  byId("model").textContent = `one network · model ${model.id}`;
  byId("about").textContent = "Noise, blur, haze, rain, too little light, or several at once: one network restores them all.";
  byId("card").setAttribute("aria-label", "What was done");
  byId("card-title").textContent = "One network";
  byId("card-lead").textContent = `${networkInWords()}, for every kind of damage that it was trained on.`;
}

/** Asks for the model once; a key may be missing the first time. */
async function loadModel() {
  if (model) return;
  const served = await readModel();
  model = served.model;
  setUpInstruction(model, served.freeText);
  if (!work) showModel();
}

async function begin() {
  try {
    await loadModel();
    if (!work) setState("empty");
  } catch (error) {
    showProblem(error);
  }
}

const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);

setUpTheme();
listen();
setUpExamples();
repeat = begin;
begin();
