/**
 * Photographs that are spoiled in the browser, so that the clean picture is known.
 *
 * The formulas are those that the experts were trained on (`degradation/physics.py`), with fixed
 * strengths and a fixed seed: an example is the same each time.
 */

import { byId, capitalised, make } from "./dom.js";

/**
 * @typedef {object} Example
 * @property {string} name What was done to it.
 * @property {string} photo
 * @property {string} file Name of the file that is sent.
 * @property {(image: ImageData) => void} spoil
 * @property {number} [quality] JPEG quality, 0 to 1; PNG otherwise.
 */

/** @type {Example[]} */
const EXAMPLES = [
  { name: "noise", photo: "chelsea", file: "noisy-cat.png", spoil: (image) => addNoise(image, 34) },
  { name: "haze", photo: "astronaut", file: "hazy-astronaut.png", spoil: (image) => addHaze(image, 1.3, 0.92) },
  { name: "rain", photo: "chelsea", file: "rainy-cat.png", spoil: (image) => addRain(image, 230, 28) },
  { name: "low light", photo: "astronaut", file: "dark-astronaut.png", spoil: (image) => darken(image, 2.6) },
  { name: "blur", photo: "astronaut", file: "blurred-astronaut.png", spoil: (image) => blur(image, 2) },
  { name: "JPEG", photo: "rocket", file: "blocky-rocket.jpg", spoil: () => {}, quality: 0.12 },
];

/**
 * Lists the examples, each as it is made.
 * @param {(file: File, clean: ImageData) => void} onExample Called with the one that somebody chooses.
 */
export async function setUpExamples(onExample) {
  for (const example of EXAMPLES) {
    const { file, clean } = await makeExample(example);
    const image = make("img", { alt: "", src: URL.createObjectURL(file), width: clean.width, height: clean.height });
    const button = make("button", { type: "button", "aria-pressed": "false" }, make("span", { class: "frame" }, image), capitalised(example.name));
    button.addEventListener("click", () => {
      scrollTo({ top: 0 });
      onExample(file, clean);
      button.setAttribute("aria-pressed", "true");
    });
    byId("examples").append(make("li", {}, button));
  }
}

/**
 * Spoils a photograph.
 * @param {Example} example
 * @returns {Promise<{file: File, clean: ImageData}>}
 */
async function makeExample(example) {
  const photo = new Image();
  photo.src = new URL(`./${example.photo}.jpg`, import.meta.url).href;
  await photo.decode();
  const [canvas, pen] = makeCanvas(photo.naturalWidth, photo.naturalHeight);
  pen.drawImage(photo, 0, 0);
  const clean = pen.getImageData(0, 0, canvas.width, canvas.height);
  const spoiled = new ImageData(new Uint8ClampedArray(clean.data), canvas.width, canvas.height);
  example.spoil(spoiled);
  pen.putImageData(spoiled, 0, 0);
  const type = example.quality ? "image/jpeg" : "image/png";
  const blob = await new Promise((done) => canvas.toBlob(done, type, example.quality));
  return { file: new File([blob], example.file, { type }), clean };
}

/**
 * Peak signal-to-noise ratio of a picture against the clean one, over R, G and B.
 * @param {HTMLImageElement} image
 * @param {ImageData} clean
 * @returns {number} In dB.
 */
export function measurePsnr(image, clean) {
  const [, pen] = makeCanvas(clean.width, clean.height);
  pen.drawImage(image, 0, 0);
  const own = pen.getImageData(0, 0, clean.width, clean.height).data;
  let sum = 0;
  for (let i = 0; i < own.length; i += 4) {
    for (let c = 0; c < 3; c++) sum += (own[i + c] - clean.data[i + c]) ** 2;
  }
  const mean = sum / (0.75 * own.length);
  return mean === 0 ? 100 : 10 * Math.log10(255 ** 2 / mean);
}

/**
 * A picture as a file that an image element can show.
 * @param {ImageData} image
 * @returns {Promise<Blob>}
 */
export function encode(image) {
  const [canvas, pen] = makeCanvas(image.width, image.height);
  pen.putImageData(image, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** Noise: N(0, sigma^2) on the scale of 0 to 255. */
function addNoise({ data }, sigma) {
  const random = makeRandom(1);
  for (let i = 0; i < data.length; i += 4) {
    for (let c = 0; c < 3; c++) data[i + c] += sigma * gaussian(random);
  }
}

/** Haze: t y + a (1 - t), t = exp(-beta depth); the ground recedes towards the top. */
function addHaze({ data, width, height }, beta, airlight) {
  for (let i = 0; i < data.length; i += 4) {
    const depth = 0.25 + 0.7 * (1 - Math.floor(i / 4 / width) / height);
    const passed = Math.exp(-beta * depth);
    for (let c = 0; c < 3; c++) data[i + c] = data[i + c] * passed + 255 * airlight * (1 - passed);
  }
}

/** Rain: bright streaks that fall from the upper right, added. */
function addRain(image, perMegapixelTimes10, lengthPx) {
  const random = makeRandom(2);
  const { width, height, data } = image;
  const [canvas, pen] = makeCanvas(width, height);
  pen.fillRect(0, 0, width, height);
  pen.globalCompositeOperation = "lighter";
  const num = Math.round((perMegapixelTimes10 * 10 * width * height) / 1e6);
  for (let i = 0; i < num; i++) {
    const [x, y, length] = [random() * width * 1.2, random() * height, lengthPx * (0.7 + 0.6 * random())];
    pen.strokeStyle = `rgb(255 255 255 / ${0.12 + 0.38 * random()})`;
    pen.lineWidth = 1 + 1.6 * random();
    pen.beginPath();
    pen.moveTo(x, y - length / 2);
    pen.lineTo(x - 0.28 * length, y + length / 2);
    pen.stroke();
  }
  const streaks = pen.getImageData(0, 0, width, height).data;
  for (let i = 0; i < data.length; i += 4) {
    for (let c = 0; c < 3; c++) data[i + c] += streaks[i + c];
  }
}

/** Low light: y / I * I^gamma, with the brightest channel as the light I. */
function darken({ data }, gamma) {
  for (let i = 0; i < data.length; i += 4) {
    const light = Math.max(data[i], data[i + 1], data[i + 2], 1) / 255;
    for (let c = 0; c < 3; c++) data[i + c] *= light ** (gamma - 1);
  }
}

/** Blur: a Gaussian, along rows and then along columns, the border repeated. */
function blur(image, std) {
  const radius = Math.ceil(3 * std);
  const taps = Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-0.5 * ((i - radius) / std) ** 2));
  const total = taps.reduce((sum, tap) => sum + tap);
  const { width, height, data } = image;
  const pass = (source, target, size, lines, step, jump) => {
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < size; i++) {
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let k = -radius; k <= radius; k++) {
            sum += taps[k + radius] * source[line * jump + Math.min(Math.max(i + k, 0), size - 1) * step + c];
          }
          target[line * jump + i * step + c] = sum / total;
        }
      }
    }
  };
  const between = new Float32Array(data.length);
  pass(data, between, width, height, 4, 4 * width);
  pass(between, data, height, width, 4 * width, 4);
}

function makeCanvas(width, height) {
  const canvas = make("canvas", { width, height });
  return [canvas, canvas.getContext("2d", { willReadFrequently: true })];
}

/** Numbers in [0, 1), the same for the same seed: mulberry32. */
function makeRandom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Box and Muller's transform. */
function gaussian(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
