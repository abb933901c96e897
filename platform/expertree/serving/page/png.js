/** What a PNG holds, by its chunks. */

const SIGNATURE = "89504e470d0a1a0a";
const PIXELS = new Set(["IHDR", "IDAT", "IEND"]);
const [DEPTH, COLOURS] = [24, 25];
const RGB = 2;

/**
 * Whether a file is a PNG of 8 bits a channel, without transparency, a profile or any other note:
 * one that a canvas reads and writes as it is.
 * @param {Blob} file
 * @returns {Promise<boolean>}
 */
export async function isPlainPng(file) {
  const data = new DataView(await file.arrayBuffer());
  if (data.byteLength < 33 || !SIGNATURE.match(/../g).every((byte, i) => data.getUint8(i) === parseInt(byte, 16))) return false;
  if (data.getUint8(DEPTH) !== 8 || data.getUint8(COLOURS) !== RGB) return false;
  for (let at = 8; at + 8 <= data.byteLength; at += 12 + data.getUint32(at)) {
    const name = String.fromCharCode(...[4, 5, 6, 7].map((i) => data.getUint8(at + i)));
    if (!PIXELS.has(name)) return false;
  }
  return true;
}
