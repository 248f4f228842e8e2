// Pictures as a model reads them: drawn, dropped or chosen, on a background, in grey or colour, in the model's size.

/** The pixels of a canvas's picture on a background: planes of red, green and blue, from 0 to 255. */
function planes({ data, width, height }, background) {
  const all = [0, 1, 2].map(() => new Float32Array(width * height));
  for (let at = 0; at < width * height; at++) {
    const alpha = data[4 * at + 3];
    for (let channel = 0; channel < 3; channel++) {
      all[channel][at] = Math.floor((data[4 * at + channel] * alpha + background[channel] * (255 - alpha) + 127) / 255);
    }
  }
  return all;
}

/** Brightness of colours by ITU-R BT.709: the second row of what makes XYZ of its primaries and D65. */
const grey = ([red, green, blue]) =>
  red.map((value, at) => Math.round(0.2126390059 * value + 0.7151686788 * green[at] + 0.0721923154 * blue[at]));

/**
 * Which pixels of a side make each of another's, with which weights: a triangle over what it covers. Everything is rounded to
 * f32 as in the program, so that no shade falls on the other side of a half.
 */
function spread(from, to) {
  const { fround } = Math;
  const ratio = fround(from / to);
  const scale = Math.max(ratio, 1);
  return Array.from({ length: to }, (_, at) => {
    const middle = fround(fround(at + 0.5) * ratio);
    const left = Math.min(Math.max(Math.floor(fround(middle - scale)), 0), from - 1);
    const right = Math.min(Math.max(Math.ceil(fround(middle + scale)), left + 1), from);
    const centre = fround(middle - 0.5);
    const weights = Array.from({ length: right - left }, (_, step) =>
      Math.max(0, fround(1 - Math.abs(fround(fround(left + step - centre) / scale)))));
    const sum = weights.reduce((a, b) => fround(a + b), 0);
    return { left, weights: weights.map((weight) => fround(weight / sum)) };
  });
}

/** A plane in another size. */
export function resized(plane, [height, width], [rows, columns]) {
  if (height === rows && width === columns) return plane;
  const { fround } = Math;
  const tall = new Float32Array(rows * width);
  spread(height, rows).forEach(({ left, weights }, row) => weights.forEach((weight, step) => {
    for (let x = 0; x < width; x++) tall[row * width + x] += fround(weight * plane[(left + step) * width + x]);
  }));
  const out = new Float32Array(rows * columns);
  spread(width, columns).forEach(({ left, weights }, column) => weights.forEach((weight, step) => {
    for (let row = 0; row < rows; row++) out[row * columns + column] += fround(weight * tall[row * width + left + step]);
  }));
  return out.map((value) => Math.min(Math.max(Math.round(value), 0), 255));
}

/** A canvas's pixels as a model of pictures reads them. */
export function valuesOf(image, [channels, rows, columns], background) {
  const colours = planes(image, background);
  const wanted = channels === 1 ? [grey(colours)] : colours;
  return Float32Array.from(wanted.flatMap((plane) =>
    Array.from(resized(plane, [image.height, image.width], [rows, columns]))));
}

/** A model's pixels as a canvas shows them. */
export function imageOf(values, [channels, rows, columns]) {
  const image = new ImageData(columns, rows);
  for (let at = 0; at < rows * columns; at++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[4 * at + channel] = values[(channels === 1 ? 0 : channel) * rows * columns + at];
    }
    image.data[4 * at + 3] = 255;
  }
  return image;
}

/** The pixels of a picture file, upright and as they are stored. */
export async function pixelsOf(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  return pixels(bitmap, bitmap.width, bitmap.height);
}

/** The pixels of a picture that a data URI holds. */
export async function pixelsOfUri(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return pixels(image, image.naturalWidth, image.naturalHeight);
}

function pixels(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Lets a person draw on a canvas by mouse, pen or finger; calls `changed` behind every stroke and `begun` before the first. */
export function drawing(canvas, ink, changed) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const place = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [((event.clientX - left) * canvas.width) / width, ((event.clientY - top) * canvas.height) / height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    Object.assign(context, { lineWidth: canvas.width / 13, lineCap: "round", lineJoin: "round", strokeStyle: ink() });
    context.beginPath();
    context.moveTo(...place(event));
    context.lineTo(...place(event));
    context.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    context.lineTo(...place(event));
    context.stroke();
  });
  canvas.addEventListener("pointerup", changed);
  canvas.addEventListener("pointercancel", changed);
}
