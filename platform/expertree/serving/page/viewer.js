/**
 * Two pictures on top of each other, a line between them, zoom and panning.
 *
 * The pictures are the files themselves, never a smaller or lossy copy. At 1:1 a pixel of the
 * picture is a pixel of the screen; from 2:1 on pixels are drawn as squares.
 */

import { byId, make } from "./dom.js";

const STEPS = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
const PANS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const PAN_PX = 60;
const REVEAL_MS = 700;
const REACH_PX = 22;
const MOST_ZOOM = 8;
const LEAST_SIDE_PX = 200;
const ZOOMS = [["fit", "Fit"], [1, "1:1"], [2, "2:1"], [4, "4:1"]];

export class Viewer {
  constructor() {
    this.stage = byId("stage");
    this.divider = byId("divider");
    this.before = byId("before");
    this.after = byId("after");
    /** The photo as it was, below the result: what shows through at less than full strength. */
    this.input = byId("input");
    this.at = 50;
    this.width = 1;
    this.height = 1;
    this.isFit = true;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    /** @type {Map<number, {x: number, y: number}>} */
    this.fingers = new Map();
    this.mode = "none";
    this.curtain = 0;
    this.buttons = ZOOMS.map(([zoom, label]) => this.makeZoomButton(zoom, label));
    byId("zoom").replaceChildren(...this.buttons);
    this.listen();
  }

  /**
   * Shows a photo as it is, before there is a result.
   * @param {string} url
   * @returns {Promise<boolean>} Whether this browser can show it.
   */
  async showBefore(url) {
    this.after.removeAttribute("src");
    this.stage.classList.add("single");
    this.stage.classList.remove("restored");
    this.mix(1);
    const isShown = (await Promise.all([load(this.before, url), load(this.input, url)])).every(Boolean);
    this.stage.classList.toggle("unseen", !isShown);
    [this.width, this.height] = [480, 300];
    if (isShown) this.takeSize(this.before);
    else this.resize();
    return isShown;
  }

  /**
   * Shows a result beside it.
   * @param {string} url
   * @returns {Promise<void>}
   */
  async showAfter(url) {
    const isFirst = !this.after.hasAttribute("src");
    if (!(await load(this.after, url))) throw new Error("this browser cannot show the result");
    const hasBefore = !this.stage.classList.contains("unseen");
    if (this.after.naturalWidth !== this.width || this.after.naturalHeight !== this.height) this.takeSize(this.after);
    // Without a picture of the input there is nothing to slide over.
    this.stage.classList.toggle("single", !hasBefore);
    this.stage.classList.add("restored");
    if (hasBefore && isFirst) this.reveal();
  }

  /** Shows the photo by itself: the result is the same. */
  showAlone() {
    this.stage.classList.add("single");
    this.stage.classList.remove("restored");
  }

  /**
   * Shows so much of the result, and of the photo as it was for the rest.
   * @param {number} strength From 0 to 1.
   */
  mix(strength) {
    this.after.style.opacity = String(strength);
    this.input.hidden = strength === 1;
  }

  /**
   * Puts another picture on the left side, of the same size.
   * @param {string} url
   * @returns {Promise<boolean>}
   */
  replaceBefore(url) {
    return load(this.before, url);
  }

  /**
   * Moves the line.
   * @param {number} percentFromLeft
   */
  slide(percentFromLeft) {
    this.at = Math.min(Math.max(percentFromLeft, 0), 100);
    this.stage.style.setProperty("--at", `${this.at}%`);
    const rounded = Math.round(this.at);
    this.divider.setAttribute("aria-valuenow", String(rounded));
    this.divider.setAttribute("aria-valuetext", `${rounded} % as it was`);
    byId("before-tag").classList.toggle("covered", this.at < 20);
    byId("after-tag").classList.toggle("covered", this.at > 80);
  }

  /**
   * Zooms, and keeps a point of the stage where it is.
   * @param {number | "fit"} zoom Pixels of the screen for one of the picture.
   * @param {{x: number, y: number}} [around] In the stage; its middle by default.
   */
  zoom(zoom, around) {
    const box = this.stage.getBoundingClientRect();
    const point = around ?? { x: box.width / 2, y: box.height / 2 };
    const old = this.scale;
    this.isFit = zoom === "fit" || (zoom < 1 && zoom / devicePixelRatio <= this.fitScale());
    this.scale = this.isFit ? this.fitScale() : Math.min(Number(zoom), MOST_ZOOM) / devicePixelRatio;
    this.x = point.x - ((point.x - this.x) * this.scale) / old;
    this.y = point.y - ((point.y - this.y) * this.scale) / old;
    this.place();
  }

  /** Fits the stage to the picture and the picture to the stage. */
  resize() {
    const room = this.stage.parentElement.clientWidth;
    if (!room) return;
    const most = Math.max(0.7 * innerHeight, 280);
    const ratio = this.height / this.width;
    const height = Math.min(Math.max(room * ratio, LEAST_SIDE_PX), most);
    const width = Math.min(Math.max(height / ratio, LEAST_SIDE_PX), room);
    this.stage.style.width = `${width}px`;
    this.stage.style.height = `${height}px`;
    if (this.isFit) this.scale = this.fitScale();
    this.place();
  }

  fitScale() {
    return Math.min(this.stage.clientWidth / this.width, this.stage.clientHeight / this.height);
  }

  takeSize(image) {
    this.width = image.naturalWidth;
    this.height = image.naturalHeight;
    this.isFit = true;
    this.resize();
  }

  /** Opens the result from the right, as a curtain, until somebody takes the line. */
  reveal() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.slide(50);
    const begin = performance.now();
    const step = (now) => {
      const share = Math.min(Math.max(now - begin, 0) / REVEAL_MS, 1);
      this.slide(100 - 50 * (1 - (1 - share) ** 3));
      if (share < 1) this.curtain = requestAnimationFrame(step);
    };
    step(begin);
  }

  place() {
    const [width, height] = [this.width * this.scale, this.height * this.scale];
    this.x = clampOffset(this.x, width, this.stage.clientWidth);
    this.y = clampOffset(this.y, height, this.stage.clientHeight);
    const zoom = this.scale * devicePixelRatio;
    for (const image of [this.before, this.input, this.after]) {
      image.style.width = `${width}px`;
      image.style.height = `${height}px`;
      image.style.transform = `translate(${this.x}px, ${this.y}px)`;
    }
    this.stage.classList.toggle("zoomed", !this.isFit);
    this.stage.classList.toggle("pixelated", zoom >= 1.95);
    this.buttons.forEach((button, index) => {
      const own = ZOOMS[index][0];
      const isOn = own === "fit" ? this.isFit : !this.isFit && Math.abs(zoom - Number(own)) < 0.01;
      button.setAttribute("aria-pressed", String(isOn));
    });
  }

  makeZoomButton(zoom, label) {
    const button = make("button", { type: "button", "aria-pressed": "false" }, label);
    button.addEventListener("click", () => this.zoom(zoom));
    return button;
  }

  listen() {
    new ResizeObserver(() => this.resize()).observe(this.stage.parentElement);
    this.stage.addEventListener("pointerdown", (event) => this.touch(event));
    this.stage.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(kind, (event) => this.release(event));
    }
    this.stage.addEventListener("dblclick", (event) => {
      this.zoom(this.isFit ? 1 : "fit", this.pointOf(event));
    });
    this.stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoom(this.scale * devicePixelRatio * Math.exp(-event.deltaY / 200), this.pointOf(event));
    }, { passive: false });
    this.divider.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      event.stopPropagation();
      cancelAnimationFrame(this.curtain);
      this.slide(Math.round(this.at) + STEPS[event.key]);
    });
    this.stage.addEventListener("keydown", (event) => this.pressed(event));
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const now = this.scale * devicePixelRatio;
    const zooms = { "+": 2 * now, "=": 2 * now, "-": now / 2, 0: "fit", 1: 1 };
    if (event.key in zooms) this.zoom(zooms[event.key]);
    else if (event.key in PANS && !this.isFit) {
      this.x += PAN_PX * PANS[event.key][0];
      this.y += PAN_PX * PANS[event.key][1];
      this.place();
    } else return;
    event.preventDefault();
  }

  touch(event) {
    if (event.button !== 0) return;
    cancelAnimationFrame(this.curtain);
    this.stage.setPointerCapture(event.pointerId);
    const point = this.pointOf(event);
    this.fingers.set(event.pointerId, point);
    const away = Math.abs(point.x - (this.at / 100) * this.stage.clientWidth);
    if (this.fingers.size === 2) this.mode = "pinch";
    else this.mode = this.isFit || away < REACH_PX ? "slide" : "pan";
    if (this.mode === "slide") this.follow(point);
  }

  move(event) {
    const last = this.fingers.get(event.pointerId);
    if (!last) return;
    const point = this.pointOf(event);
    if (this.mode === "slide") this.follow(point);
    else if (this.mode === "pan") {
      this.x += point.x - last.x;
      this.y += point.y - last.y;
      this.place();
    } else if (this.mode === "pinch") this.pinch(event.pointerId, last, point);
    this.fingers.set(event.pointerId, point);
  }

  pinch(id, last, point) {
    const other = [...this.fingers].find(([own]) => own !== id)?.[1];
    if (!other) return;
    const spread = (a) => Math.hypot(a.x - other.x, a.y - other.y);
    const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 };
    this.zoom((this.scale * devicePixelRatio * spread(point)) / Math.max(spread(last), 1), middle);
  }

  release(event) {
    this.fingers.delete(event.pointerId);
    this.mode = this.fingers.size ? "pan" : "none";
  }

  follow(point) {
    if (!this.stage.classList.contains("single")) this.slide((100 * point.x) / this.stage.clientWidth);
  }

  pointOf(event) {
    const box = this.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
}

/** Where a picture lies: in the middle if it is smaller than the stage, else without a gap. */
function clampOffset(offset, size, room) {
  if (size <= room) return (room - size) / 2;
  return Math.min(0, Math.max(room - size, offset));
}

async function load(image, url) {
  image.src = url;
  try {
    await image.decode();
    return true;
  } catch {
    return false;
  }
}
