/** Several photos: each is restored as the router chooses, and all are taken away in one file. */

import { Problem } from "./api.js";
import { announce, byId, make, save } from "./dom.js";
import { restoreAsJob } from "./jobs.js";
import { distinct, makeZip } from "./zip.js";

const THUMB_PX = 200;
const WORDS = { waiting: "waiting", working: "restoring", left: "left as it is" };

/**
 * @typedef {object} Photo
 * @property {File} file
 * @property {string} path
 * @property {"waiting" | "working" | "restored" | "left" | "failed"} state
 * @property {Blob | null} restored Of its own format, with its metadata.
 * @property {any} button
 */

/** @type {Photo[]} */
let photos = [];
let stop = new AbortController();
let isRunning = false;
/** @type {(file: File) => void} */
let open;
/** @type {(route: import("./api.js").Route) => Promise<string>} */
let describe;
/** @type {(problem: Problem, again: () => void) => void} */
let tell;

/**
 * @param {(file: File) => void} onOpen Called with a photo that somebody wants to see.
 * @param {(route: import("./api.js").Route) => Promise<string>} inWords What is said of a photo that an expert has restored.
 * @param {(problem: Problem, again: () => void) => void} onProblem Called where nothing goes on without help.
 */
export function setUpTray(onOpen, inWords, onProblem) {
  [open, describe, tell] = [onOpen, inWords, onProblem];
  byId("tray-stop").addEventListener("click", () => (isRunning ? stop.abort() : tryAgain()));
  byId("tray-download").addEventListener("click", download);
}

export const isTrayEmpty = () => photos.length === 0;

/**
 * Adds photos, and begins with them.
 * @param {import("./intake.js").Given[]} given
 */
export function addToTray(given) {
  const added = given.map(({ file, path }) => {
    const photo = { file, path, state: "waiting", restored: null, button: null };
    photo.button = make("button", { type: "button", "aria-pressed": "false", title: path },
      make("span", { class: "frame" }), make("span", { class: "name" }, file.name), make("small"));
    photo.button.addEventListener("click", () => {
      open(photo.file);
      photo.button.setAttribute("aria-pressed", "true");
    });
    return photo;
  });
  photos.push(...added);
  added.forEach((photo) => mark(photo, "waiting"));
  byId("tray-photos").append(...added.map((photo) => make("li", {}, photo.button)));
  byId("tray").hidden = false;
  announce(`${photos.length} photos. Each is restored in turn.`);
  drawThumbs(added);
  run();
  summarise();
}

/** Restores one after the other what waits, also what comes meanwhile. */
async function run() {
  if (isRunning) return;
  stop = new AbortController();
  isRunning = true;
  try {
    for (let photo; !stop.signal.aborted && (photo = photos.find((own) => own.state === "waiting"));) await restoreOne(photo);
  } finally {
    isRunning = false;
    summarise();
  }
  if (photos.every((photo) => photo.state !== "waiting")) announce(byId("tray-lead").textContent);
}

/** @param {Photo} photo */
async function restoreOne(photo) {
  mark(photo, "working");
  summarise();
  const watcher = {
    signal: stop.signal,
    onUpload: () => {},
    onTiles: (_, done, total) => mark(photo, "working", total > 1 ? `tile ${Math.min(done + 1, total)} of ${total}` : undefined),
    onWait: (_, isAway) => mark(photo, "working", `the endpoint ${isAway ? "cannot be reached" : "is busy"}`),
  };
  const { image, route } = await restoreAsJob(photo.file, {}, watcher).catch((error) => {
    giveUp(photo, error);
    return { image: null, route: null };
  });
  if (!image) return;
  photo.restored = image;
  if (route.expert === null) return mark(photo, "left");
  mark(photo, "restored", await describe(route));
  await drawThumb(photo, image);
}

/** Marks a photo that was stopped or refused; without a key nothing goes on. */
function giveUp(photo, error) {
  if (stop.signal.aborted) return mark(photo, "waiting");
  const problem = error instanceof Problem ? error : new Problem(0, "The page has failed", String(error));
  if (problem.status !== 401) return mark(photo, "failed", problem.title, problem.detail);
  mark(photo, "waiting");
  stop.abort();
  tell(problem, run);
}

function tryAgain() {
  for (const photo of photos) if (photo.state === "failed") mark(photo, "waiting");
  run();
}

/**
 * @param {Photo} photo
 * @param {Photo["state"]} state
 */
function mark(photo, state, words = WORDS[state], detail = "") {
  photo.state = state;
  photo.button.dataset.photo = state;
  photo.button.title = detail ? `${photo.path}: ${detail}` : photo.path;
  photo.button.lastElementChild.textContent = words;
}

function summarise() {
  const count = (...states) => photos.filter((photo) => states.includes(photo.state)).length;
  const [done, failed, left] = [count("restored", "left"), count("failed"), count("left")];
  const rest = photos.length - done - failed;
  byId("tray-title").textContent = `${photos.length} photos`;
  byId("tray-lead").textContent = [
    rest ? `${done} of ${photos.length} done` : `${done - left} restored`,
    ...(left ? [`${left} better left as ${left === 1 ? "it is" : "they are"}`] : []),
    ...(failed ? [`${failed} failed`] : []),
  ].join(", ") + ". Open one to compare, or to have it restored differently.";
  byId("tray-bar").style.width = `${(100 * (done + failed)) / Math.max(photos.length, 1)}%`;
  byId("tray-bar").parentElement.hidden = !rest;
  byId("tray-download").disabled = !done;
  byId("tray-download").textContent = rest || failed ? `Download ${done} of ${photos.length} as ZIP` : `Download all ${done} as ZIP`;
  byId("tray-stop").hidden = !isRunning && !rest && !failed;
  byId("tray-stop").textContent = isRunning ? "Stop" : rest ? "Go on" : "Try those again that failed";
}

/** All that is done, under the names that it came with. */
async function download() {
  const done = photos.filter((photo) => photo.restored);
  const names = distinct(done.map(({ path }) => path));
  const files = done.map(({ restored, file }, i) => ({ name: names[i], blob: restored, time: new Date(file.lastModified) }));
  try {
    save(await makeZip(files), "restored.zip");
  } catch (error) {
    byId("tray-lead").textContent = error instanceof RangeError ? "They are too many for one file: an archive holds 4 GB. Open one to download it alone." : String(error);
  }
}

/** Small pictures, one after the other: a large photo takes much memory while it is read. */
async function drawThumbs(added) {
  for (const photo of added) if (!photo.restored) await drawThumb(photo, photo.file);
}

/**
 * @param {Photo} photo
 * @param {Blob} file The photo, or what became of it.
 */
async function drawThumb(photo, file) {
  try {
    const bitmap = await createImageBitmap(file, { resizeHeight: THUMB_PX, resizeQuality: "medium" });
    if (file !== photo.file || !photo.restored) {
      const canvas = make("canvas", { width: bitmap.width, height: bitmap.height });
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      photo.button.firstElementChild.replaceChildren(canvas);
    }
    bitmap.close();
  } catch {
    // A kind that this browser cannot show, or no photo at all.
    photo.button.firstElementChild.replaceChildren(photo.file.name.split(".").pop().toUpperCase());
  }
}
