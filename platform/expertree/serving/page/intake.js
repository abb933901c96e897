/** Where photos come from: chosen, pasted, or dropped anywhere on the page, alone, together or in folders. */

import { byId, listing } from "./dom.js";

/** Suffixes of files that the endpoint reads, whatever the browser makes of them. */
const SUFFIXES = /\.(jpe?g|jpe|jfif|jif|jfi|pjpeg|pjp|png|webp|avif|hei[cf]|hif|bmp|tiff?)$/i;

/**
 * @typedef {object} Given
 * @property {File} file
 * @property {string} path Its name, behind those of the folders that it lay in.
 */

/**
 * Calls back with the photos that somebody gives, and with a sentence on other files among them.
 * @param {(photos: Given[], leftOut: string) => void} take
 */
export function listenForPhotos(take) {
  for (const [id, attribute] of [["file", "data-choose"], ["folder", "data-choose-folder"]]) {
    const input = byId(id);
    document.querySelectorAll(`[${attribute}]`).forEach((button) => button.addEventListener("click", () => input.click()));
    input.addEventListener("change", () => {
      give([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })), take);
      input.value = "";
    });
  }
  addEventListener("paste", (event) => takeAll(event.clipboardData, take));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    takeAll(event.dataTransfer, take);
  });
}

/**
 * @param {DataTransfer | null} transfer Which is empty again once something has been waited for.
 * @param {(photos: Given[], leftOut: string) => void} take
 */
async function takeAll(transfer, take) {
  const items = [...(transfer?.items ?? [])].filter((item) => item.kind === "file");
  const given = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = await Promise.all(given.map(({ entry, file }) => (entry?.isDirectory ? below(entry) : file ? [{ file, path: file.name }] : [])));
  give(found.flat(), take);
}

/**
 * The files below a folder, by name; what is hidden and what cannot be read is passed over.
 * @param {any} folder
 * @returns {Promise<Given[]>}
 */
async function below(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (let some; (some = await new Promise((done) => reader.readEntries(done, () => done([])))).length;) entries.push(...some);
  entries.sort((one, other) => (one.name < other.name ? -1 : 1));
  const found = [];
  for (const entry of entries) {
    if (entry.isDirectory && !entry.name.startsWith(".")) found.push(...(await below(entry)));
    else if (entry.isFile) {
      const file = await new Promise((done) => entry.file(done, () => done(null)));
      if (file) found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    }
  }
  return found;
}

/** A single file is taken whatever it is: the endpoint says best what is wrong with it. */
function give(found, take) {
  const seen = found.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
  if (seen.length === 1 && !seen[0].path.includes("/")) return take(seen, "");
  const photos = seen.filter(({ file }) => SUFFIXES.test(file.name) || file.type.startsWith("image/"));
  if (found.length) take(photos, leftOut(seen.filter((own) => !photos.includes(own)), photos.length));
}

function leftOut(others, numPhotos) {
  if (!others.length) return numPhotos ? "" : "There is no photo in this folder.";
  const kinds = [...new Set(others.map(({ file }) => /\.\w+$/.exec(file.name)?.[0].toLowerCase() ?? "without a suffix"))];
  const named = kinds.length > 4 ? `${kinds.slice(0, 3).join(", ")} and ${kinds.length - 3} other kinds` : listing(kinds);
  const what = others.length === 1 ? "One other file was left out" : `${others.length} other files were left out`;
  return `${what} (${named}).${numPhotos ? "" : " There was no photo among them."}`;
}
