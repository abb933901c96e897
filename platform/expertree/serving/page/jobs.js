/** Large photos, and many: restored as jobs, which are deleted once nobody wants them any more. */

import { forsake, pause, problemOf, sendPatiently, withOptions } from "./api.js";

/**
 * @typedef {import("./api.js").Options} Options
 * @typedef {import("./api.js").Result} Result
 * @typedef {import("./api.js").Watcher} Watcher
 */

const FIRST_POLL_MS = 400;
const LONGEST_POLL_MS = 3000;
const SLOWER = 1.25;

/** Paths of the jobs that the endpoint has for this page. @type {Set<string>} */
const kept = new Set();

/** Jobs that could not be followed to their end, by photo and request. @type {WeakMap<File, Map<string, string>>} */
const left = new WeakMap();

addEventListener("pagehide", () => kept.forEach(forsake));

/**
 * Restores a photo as a job, tile by tile. The job is deleted when its result is here, when it has
 * failed or is stopped, and when the page is left. One that could only not be reached any more is
 * gone on with when the same is asked for again.
 * @param {File} file
 * @param {Options} options
 * @param {Watcher} watcher
 * @returns {Promise<Result>}
 */
export async function restoreAsJob(file, options, watcher) {
  const path = withOptions("v1/jobs", options);
  for (let isAgain = false; ; isAgain = true) {
    const job = takeUp(file, path) ?? (await submit(path, file, watcher));
    const found = await follow(job, watcher).catch((problem) => {
      const isLost = problem.status === 404;
      if (isLost) kept.delete(job);
      else if (watcher.signal.aborted) drop(job);
      else setAside(file, path, job);
      if (!isLost || isAgain) throw problem;
      return null; // the endpoint has lost its jobs, or this page had deleted it when it was left
    });
    if (!found) continue;
    drop(job);
    const { state, image } = found;
    if (!image) throw problemOf(state.problem.status, state.problem);
    return { ...state, image };
  }
}

/** Asks for a job; one that is stopped too late is deleted as soon as its path is known. */
async function submit(path, file, watcher) {
  const onLate = (headers) => drop(headers.get("location"));
  const { headers } = await sendPatiently({ method: "POST", path, file, watcher, onLate });
  const job = headers.get("location");
  kept.add(job);
  return job;
}

/** Asks how a job stands, ever more seldom, until it has failed or its image is there. */
async function follow(job, watcher) {
  for (let wait = FIRST_POLL_MS; ; wait = Math.min(SLOWER * wait, LONGEST_POLL_MS)) {
    const { body } = await sendPatiently({ method: "GET", path: job, watcher });
    const state = JSON.parse(await body.text());
    watcher.onTiles(state.state, state.tiles_done, state.num_tiles);
    if (state.state === "failed") return { state, image: null };
    if (state.state === "done") {
      const answer = await sendPatiently({ method: "GET", path: `${job}/result`, watcher });
      return { state, image: answer.body };
    }
    await pause(wait, watcher.signal);
  }
}

/** Deletes a job; nobody waits for that. */
async function drop(job) {
  kept.add(job);
  await sendPatiently({ method: "DELETE", path: job }).catch(() => null);
  kept.delete(job);
}

function setAside(file, path, job) {
  if (!left.has(file)) left.set(file, new Map());
  left.get(file).set(path, job);
}

/** @returns {string | undefined} */
function takeUp(file, path) {
  const job = left.get(file)?.get(path);
  left.get(file)?.delete(path);
  return job;
}
