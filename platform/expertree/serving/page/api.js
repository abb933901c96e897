/** The endpoint's HTTP contract, as the page needs it. What it answers keeps its own names. */

/**
 * @typedef {object} ModelNode
 * @property {number} index
 * @property {number} level 0 for the root.
 * @property {number | null} parent
 * @property {number[]} children
 * @property {number[]} leaves The finest groups below it or itself.
 * @property {number} num_samples Training samples that fell into it.
 * @property {number} expert The expert that serves it.
 * @property {Record<string, number>} holds Share of its samples with a degradation, by name.
 *
 * @typedef {object} Model
 * @property {string} id
 * @property {string} digest
 * @property {number[]} groups Groups on each level.
 * @property {string[]} names What an instruction may name: degradations, then their degrees.
 * @property {boolean} takes_sentences Whether its networks are told what is wrong in one's own words.
 * @property {ModelNode[]} nodes The tree, by index.
 * @property {{node: number, backbone: string, num_parameters: number}[]} experts
 * @property {number} num_parameters
 *
 * @typedef {object} Route
 * @property {string} model Digest of the model that chose.
 * @property {number | null} expert The chosen expert, by its node; null leaves the image as it is.
 * @property {number} node The node that it serves here, or would.
 * @property {number} level
 * @property {number} leaf
 * @property {number[]} path Nodes from the root to `node`.
 * @property {number[]} leaf_probabilities
 * @property {number[]} level_probabilities
 * @property {number} confidence In [0, 1].
 * @property {Record<string, number>} degradations How much of each the image seems to have.
 * @property {{expert: number, probability: number}[]} alternatives
 * @property {number | null} gain_db What the expert of `node` is predicted to gain over the input.
 *
 * @typedef {object} Result
 * @property {Blob} image Of the format asked for.
 * @property {Route} route
 * @property {number} num_tiles
 * @property {Record<string, number>} seconds Time by stage.
 * @property {number[][]} layers For each layer with experts of its own, each one's share of the tiles.
 *
 * @typedef {Record<string, string | number | boolean | string[]>} Options As the endpoint names them.
 *
 * @typedef {object} Watcher
 * @property {AbortSignal} signal Stops it.
 * @property {(share: number) => void} onUpload
 * @property {(state: string, done: number, total: number) => void} onTiles
 * @property {(seconds: number, isAway: boolean) => void} onWait Told what is waited before another try, and whether the endpoint could not be reached.
 *
 * @typedef {object} Request
 * @property {string} method
 * @property {string} path
 * @property {File} [file]
 * @property {string} [accept]
 * @property {Watcher} [watcher]
 * @property {(headers: Headers) => void} [onLate] Told of an answer to a photo that had gone out whole when it was stopped.
 *
 * @typedef {{status: number, headers: Headers, body: Blob}} Answer
 */

const MOST_TRIES = 6;
const LONGEST_WAIT_S = 30;
/** For what is asked about a job: its photo is there already. */
const LONGEST_JOB_WAIT_S = 300;
/** What a network, a proxy or a restart answers, and not the endpoint's work. */
const PASSING = [0, 502, 503, 504];

/** An error as the endpoint tells it (RFC 9457), or one on the way to it (status 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} title
   * @param {string} detail
   */
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail;
  }
}

/** @returns {string} The key that this tab was given. */
const readKey = () => sessionStorage.getItem("key") ?? "";

/** @param {string} key */
export const keepKey = (key) => sessionStorage.setItem("key", key);

/**
 * The model that answers, and whether an instruction may be free text.
 * @returns {Promise<{model: Model, freeText: boolean}>}
 */
export async function readModel() {
  const { body } = await send({ method: "GET", path: "v1/models" });
  const { models, free_text: freeText } = JSON.parse(await body.text());
  if (!models.length) throw new Problem(503, "Not ready", "The model is still loading; try again in a moment.");
  return { model: models[0], freeText };
}

/**
 * Restores a photo in one request, into PNG.
 * @param {File} file
 * @param {Options} options
 * @param {Watcher} watcher
 * @returns {Promise<Result>}
 */
export async function restore(file, options, watcher) {
  const path = withOptions("v1/restore", options);
  const { body } = await sendPatiently({ method: "POST", path, file, accept: "application/json", watcher });
  const answer = JSON.parse(await body.text());
  return { ...answer, image: decode(answer.image, "image/png") };
}

/**
 * Restores a photo into a file of its own format: what the download holds.
 * @param {File} file
 * @param {Options} options
 * @param {Watcher} watcher
 * @returns {Promise<{image: Blob, model: string}>} The file, and the digest of the model.
 */
export async function restoreFile(file, options, watcher) {
  const path = withOptions("v1/restore", options);
  const { body, headers } = await sendPatiently({ method: "POST", path, file, accept: "image/*", watcher });
  return { image: body, model: headers.get("x-restore-model") };
}

/**
 * The same request for a terminal.
 * @param {File} file
 * @param {Options} options
 * @returns {string}
 */
export function asCurl(file, options) {
  const url = new URL(withOptions("v1/restore", options), document.baseURI).href;
  const key = readKey() ? ["  -H 'Authorization: Bearer YOUR_KEY' \\"] : [];
  return [
    `curl --fail-with-body ${quoted(url)} \\`,
    ...key,
    `  --data-binary @${quoted(file.name)} \\`,
    `  --output ${quoted(`restored-${file.name}`)}`,
  ].join("\n");
}

/**
 * Sends a request again while the endpoint is busy and says when to come back. What sends no photo
 * is sent again some times too when it did not get through.
 * @param {Request} request
 * @returns {Promise<Answer>}
 */
export async function sendPatiently(request) {
  const { file, watcher } = request;
  for (let tries = 1; ; tries++) {
    try {
      return await send(request);
    } catch (problem) {
      const passes = problem.retryAfter || (!file && PASSING.includes(problem.status));
      const wait = Math.max(problem.retryAfter ?? 0, file ? 0 : 2 ** (tries - 1));
      if (!passes || wait > (file ? LONGEST_WAIT_S : LONGEST_JOB_WAIT_S) || tries === MOST_TRIES) throw problem;
      watcher?.onWait(wait, problem.status === 0);
      await pause(1000 * wait, watcher?.signal);
    }
  }
}

/**
 * Deletes a job as the page is left, when nothing can be waited for.
 * @param {string} job
 */
export function forsake(job) {
  fetch(new URL(job, document.baseURI), { method: "DELETE", keepalive: true, headers: keyHeader() }).catch(() => null);
}

/**
 * One request. XMLHttpRequest, since fetch does not tell how much has been sent.
 * @param {Request} request
 * @returns {Promise<Answer>}
 */
function send({ method, path, file, accept = "application/json", watcher, onLate }) {
  return new Promise((resolve, reject) => {
    const signal = watcher?.signal;
    if (signal?.aborted) return reject(signal.reason);
    const request = new XMLHttpRequest();
    let isSent = false;
    const stop = () => (isSent && onLate ? reject(signal.reason) : request.abort());
    signal?.addEventListener("abort", stop);
    request.open(method, new URL(path, document.baseURI));
    request.responseType = "blob";
    request.setRequestHeader("Accept", accept);
    for (const [name, value] of Object.entries(keyHeader())) request.setRequestHeader(name, value);
    if (file) request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    if (watcher) request.upload.onprogress = (event) => watcher.onUpload(event.loaded / event.total);
    if (onLate) request.upload.onload = () => { isSent = true; };
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    request.onabort = () => reject(signal?.reason);
    request.onerror = () => reject(new Problem(0, "The endpoint cannot be reached", "It may have stopped, or the network is gone. Your photo is still here."));
    request.onload = () => {
      const headers = readHeaders(request);
      if (request.status >= 400) return readProblem(request.status, headers, request.response).then(reject, reject);
      if (signal?.aborted) onLate?.(headers);
      resolve({ status: request.status, headers, body: request.response });
    };
    request.send(file ?? null);
  });
}

const keyHeader = () => (readKey() ? { Authorization: `Bearer ${readKey()}` } : {});

function readHeaders(request) {
  const lines = request.getAllResponseHeaders().trim().split(/\r?\n/);
  return new Headers(lines.filter(Boolean).map((line) => /** @type {[string, string]} */ (line.split(/:\s*(.*)/s).slice(0, 2))));
}

async function readProblem(status, headers, body) {
  let told = {};
  if (headers.get("content-type")?.includes("json")) told = JSON.parse(await body.text());
  const problem = problemOf(status, told);
  problem.retryAfter = Number(headers.get("retry-after")) || null;
  return problem;
}

/**
 * @param {number} status
 * @param {{title?: string, detail?: string}} told
 * @returns {Problem}
 */
export function problemOf(status, told) {
  return new Problem(status, told.title ?? `The endpoint answered ${status}`, told.detail ?? "");
}

/**
 * @param {string} path
 * @param {Options} options
 * @returns {string}
 */
export function withOptions(path, options) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) {
    for (const own of [value].flat()) query.append(name, String(own));
  }
  return query.size ? `${path}?${query}` : path;
}

function decode(base64, type) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type });
}

function quoted(text) {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * Waits.
 * @param {number} ms
 * @param {AbortSignal} [signal] Ends it with an error.
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
