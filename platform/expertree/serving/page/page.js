/** The page: takes a photo, has it restored, shows what was done. */

import { setUpActions, showActions } from "./actions.js";
import { keepKey, Problem, readModel, restore } from "./api.js";
import { showModel, showRoute, toggleExperts } from "./card.js";
import { announce, byId, percent, size } from "./dom.js";
import { encode, measurePsnr, setUpExamples } from "./examples.js";
import { readInstruction, setUpInstruction } from "./instruction.js";
import { listenForPhotos } from "./intake.js";
import { restoreAsJob } from "./jobs.js";
import { showProgress, showTiles } from "./progress.js";
import { describeExpert, isSingle, servingExpert, whyAsIs } from "./route.js";
import { setUpSides, showSide, showStrength } from "./sides.js";
import { readStrength, resetStrength, setUpStrength } from "./strength.js";
import { setUpTheme } from "./switch.js";
import { addToTray, isTrayEmpty, setUpTray } from "./tray.js";
import { Viewer } from "./viewer.js";
import { forgetVariants, isLarge, makeWork, revokeUrls, variantOf } from "./work.js";

const viewer = new Viewer();
/** @type {import("./api.js").Model | null} */
let model = null;
/** The model that restored the last photo of the tray. @type {import("./api.js").Model | null} */
let other = null;
/** @type {import("./work.js").Work | null} */
let work = null;
let stop = new AbortController();
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
  work = makeWork(file, clean);
  const own = work;
  byId("drop").hidden = true;
  byId("viewer").hidden = false;
  setState("busy");
  resetStrength();
  own.isSeen = await viewer.showBefore(own.url);
  if (own !== work) return;
  own.numPixels = own.isSeen ? viewer.width * viewer.height : 0;
  if (clean) {
    own.psnr = measurePsnr(viewer.before, clean);
    own.cleanUrl = URL.createObjectURL(await encode(clean));
  }
  byId("size").textContent = own.isSeen ? `${viewer.width} × ${viewer.height}` : "";
  showSide(viewer, own, "as it was");
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
  revokeUrls(work);
  for (const button of document.querySelectorAll(":is(#examples, #tray-photos) [aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
  work = null;
  byId("sides").hidden = true;
}

/** @param {"empty" | "many" | "busy" | "done" | "failed"} state */
function setState(state) {
  const focused = document.activeElement;
  document.body.dataset.state = state;
  byId("card").setAttribute("aria-busy", String(state === "busy"));
  byId("progress").hidden = state !== "busy";
  byId("error").hidden = state !== "failed";
  const [isLeft, isShown] = [work?.shown?.result.route.expert === null, work?.shown && state !== "busy"];
  byId("actions").hidden = !isShown;
  byId("as-is").hidden = !isShown || !isLeft;
  byId("strength-row").hidden = !isShown || isLeft || !work.isSeen;
  // What the keyboard was on is hidden: it goes on from the photo, not from the top of the page.
  if (focused?.closest("[hidden]")) byId("work").focus({ preventScroll: true });
}

const isBusy = () => document.body.dataset.state === "busy";

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
    if (own !== work || watcher.signal.aborted) return;
    if (error.status === 422 && Object.keys(options).length && await renewModel().catch(() => false)) {
      if (own === work && !watcher.signal.aborted) run({});
    } else showProblem(error);
  }
}

/** Stops what goes on, and watches what comes. */
function makeWatcher() {
  stop.abort();
  stop = new AbortController();
  return {
    signal: stop.signal,
    onUpload: (share) => (share < 1 ? showProgress("Uploading", share) : showProgress("Looking and restoring", null)),
    onTiles: (state, done, total) => (state === "queued" ? showProgress("In the queue", null) : showTiles(done, total)),
    onWait: (seconds, isAway) => showProgress(`The endpoint ${isAway ? "cannot be reached" : "is busy"}; trying again in ${Math.ceil(seconds)} s`, null),
  };
}

/**
 * @param {import("./work.js").Work} own
 * @param {import("./api.js").Options} options
 * @param {import("./api.js").Result} result
 */
async function addVariant(own, options, result) {
  if (result.route.model !== model.digest) {
    await renewModel();
    if (own !== work) return;
    // An expert of the tree that was on the page is another one in this tree.
    if ("expert" in options) return run({});
    if (result.route.model !== model.digest) throw new Problem(503, "Another model is taking over", "Try again in a moment.");
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

/** @param {import("./work.js").Variant} variant */
async function showVariant(variant) {
  const own = work;
  await viewer.showAfter(variant.url);
  if (own !== work) return;
  if (own.clean) variant.psnr ??= measurePsnr(viewer.after, own.clean);
  own.shown = variant;
  setState("done");
  byId("size").textContent = `${viewer.width} × ${viewer.height}`;
  showStrength(viewer, own, readStrength());
  if (variant.result.route.expert === null && own.isSeen) viewer.showAlone();
  byId("sides").hidden = !own.cleanUrl;
  showRoute(model, own, tryExpert);
  showActions(own);
}

/** @param {number | null} expert */
function tryExpert(expert) {
  if (isBusy()) return;
  const known = variantOf(work, expert);
  if (known) showVariant(known);
  else run({ expert });
}

/** Restores what was better left as it is. */
function insist() {
  const expert = servingExpert(model, work.shown.result.route);
  if (variantOf(work, expert)) tryExpert(expert);
  else run({ insist: true });
}

// Trouble ---------------------------------------------------------------------------------

/** @param {unknown} error */
function showProblem(error) {
  const problem = error instanceof Problem ? error : new Problem(0, "The page has failed", String(error));
  setState("failed");
  byId("viewer").hidden = !work || !(work.isSeen || work.shown);
  byId("drop").hidden = !byId("viewer").hidden;
  if (!work?.shown) showModel(model);
  byId("error-title").textContent = problem.title;
  byId("error-detail").textContent = problem.detail;
  byId("error-file").textContent = work ? `${work.file.name}, ${size(work.file.size)}` : "";
  byId("key-form").hidden = problem.status !== 401;
  byId("again").hidden = ![0, 429, 502, 503, 504].includes(problem.status);
}

// Wiring ----------------------------------------------------------------------------------

function listen() {
  setUpSides((side) => showSide(viewer, work, side));
  setUpStrength((strength) => showStrength(viewer, work, strength));
  setUpActions({ viewer, work: () => work, watch: makeWatcher, tell: showProblem });
  listenForPhotos(takeGiven);
  setUpTray((file) => {
    scrollTo({ top: 0 });
    take(file);
  }, describeRestored, (problem, again) => {
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
  byId("insist").addEventListener("click", insist);
  byId("instruct").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!isBusy()) run(readInstruction());
  });
  byId("more-experts").addEventListener("click", () => toggleExperts(model, work, tryExpert));
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(byId("key").value);
    byId("key").value = "";
    repeat();
  });
}

function startAgain() {
  forget();
  byId("viewer").hidden = true;
  byId("drop").hidden = !isTrayEmpty();
  setState(isTrayEmpty() ? "empty" : "many");
  showModel(model);
}

/** @param {{model: import("./api.js").Model, freeText: boolean}} served */
function takeModel(served) {
  model = served.model;
  setUpInstruction(model, served.freeText);
  showModel(model);
}

/**
 * Asks for the model that answers now. Where it is another one, what the last one made of the photo
 * is gone: its experts have no place in this tree.
 * @returns {Promise<boolean>} Whether it is another one.
 */
async function renewModel() {
  const served = await readModel();
  if (served.model.digest === model?.digest) return false;
  takeModel(served);
  if (work) forgetVariants(work);
  return true;
}

/**
 * What is said of a photo of the tray that an expert has restored, perhaps of another model.
 * @param {import("./api.js").Route} route
 * @returns {Promise<string>}
 */
async function describeRestored({ model: digest, expert }) {
  if (digest !== other?.digest) other = digest === model?.digest ? model : await readModel().then((served) => served.model, () => null);
  return other?.digest === digest && !isSingle(other) ? `expert for ${describeExpert(other, expert)}` : "restored";
}

/** Asks for the model once; a key may be missing the first time. */
async function loadModel() {
  if (model) return;
  takeModel(await readModel());
}

async function begin() {
  try {
    await loadModel();
    if (!work) setState("empty");
  } catch (error) {
    showProblem(error);
  }
}

setUpTheme();
listen();
setUpExamples(take);
repeat = begin;
begin();
