/** Where photos come from: chosen, pasted, or dropped anywhere on the page. */

import { byId } from "./dom.js";

/**
 * Calls back with each photo that somebody gives.
 * @param {(file: File) => void} take
 */
export function listenForPhotos(take) {
  const input = byId("file");
  document.querySelectorAll("[data-choose]").forEach((button) => button.addEventListener("click", () => input.click()));
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = "";
  });
  addEventListener("paste", (event) => takeFirst(event.clipboardData, take));
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
    takeFirst(event.dataTransfer, take);
  });
}

/**
 * @param {DataTransfer | null} transfer
 * @param {(file: File) => void} take
 */
function takeFirst(transfer, take) {
  const file = transfer?.files[0];
  if (file) take(file);
}
