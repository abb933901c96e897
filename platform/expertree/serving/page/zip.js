/** Files in one file: a ZIP archive without compression, which photos do not need. */

const MOST_BYTES = 0xffff_fffe;
const MOST_FILES = 0xfffe;
const UTF8_NAMES = 0x0800;

/**
 * Paths in an archive, one for each file. Systems differ in which names are one (`a.jpg`, `A.JPG`),
 * and in what parts folders (`\`): none replaces another, or leads elsewhere.
 * @param {string[]} paths
 * @returns {string[]}
 */
export function distinct(paths) {
  const taken = new Set();
  return paths.map((path) => {
    const plain = path.replaceAll("\\", "_");
    let name = plain;
    const place = () => name.normalize("NFC").toLowerCase();
    for (let i = 2; taken.has(place()); i++) name = plain.replace(/(\.\w+)?$/, ` (${i})$1`);
    taken.add(place());
    return name;
  });
}

/**
 * @param {{name: string, blob: Blob, time: Date}[]} files
 * @returns {Promise<Blob>}
 * @throws {RangeError} If they are more than an archive holds.
 */
export async function makeZip(files) {
  if (files.length > MOST_FILES) throw new RangeError(`an archive holds ${MOST_FILES} files`);
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const { name, blob, time } of files) {
    const encoded = new TextEncoder().encode(name);
    const shared = [20, UTF8_NAMES, 0, ...dosTime(time)];
    const sizes = [crc32(new Uint8Array(await blob.arrayBuffer())), blob.size, blob.size];
    const local = record([[4, 0x04034b50], ...twoBytes(shared), ...fourBytes(sizes), [2, encoded.length], [2, 0]]);
    directory.push(
      record([[4, 0x02014b50], [2, 20], ...twoBytes(shared), ...fourBytes(sizes), [2, encoded.length], ...twoBytes([0, 0, 0, 0]), [4, 0], [4, offset]]),
      encoded,
    );
    parts.push(local, encoded, blob);
    offset += local.length + encoded.length + blob.size;
    if (offset > MOST_BYTES) throw new RangeError("an archive holds 4 GB");
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record([[4, 0x06054b50], ...twoBytes([0, 0, files.length, files.length]), [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/**
 * Numbers one after the other, the lowest byte first.
 * @param {[number, number][]} fields Bytes and value of each.
 */
function record(fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [length]) => sum + length, 0)));
  let at = 0;
  for (const [length, value] of fields) {
    if (length === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += length;
  }
  return new Uint8Array(view.buffer);
}

const twoBytes = (values) => values.map((value) => [2, value]);
const fourBytes = (values) => values.map((value) => [4, value]);

/** Time and day as DOS had them, in steps of two seconds from 1980 on. */
function dosTime(time) {
  const year = Math.min(Math.max(time.getFullYear(), 1980), 2107) - 1980;
  return [
    (time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1),
    (year << 9) | ((time.getMonth() + 1) << 5) | time.getDate(),
  ];
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** @param {Uint8Array} data */
function crc32(data) {
  let sum = 0xffff_ffff;
  for (let i = 0; i < data.length; i++) sum = TABLE[(sum ^ data[i]) & 0xff] ^ (sum >>> 8);
  return ~sum >>> 0;
}
