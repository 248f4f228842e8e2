// Holds an exported embedder to transformers.js: the vectors of texts by its files in f32, f16 and eight bits.
//
//     npm install --prefix /tmp/tjs --ignore-scripts @huggingface/transformers
//     distil-gpu export data/cache/minilm --to /tmp/minilm
//     head -200 data/cache/movie-sentiment/unlabelled.txt > /tmp/texts.txt
//     distil-gpu logits data/cache/minilm --input /tmp/texts.txt --out /tmp/vectors.safetensors --device cpu
//     NODE_PATH=/tmp/tjs/node_modules node tools/check_transformersjs.mjs /tmp/minilm /tmp/texts.txt /tmp/vectors.safetensors

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, resolve } from "node:path";

const { env, pipeline } = createRequire(import.meta.url)("@huggingface/transformers");
const [folder, file, vectors] = process.argv.slice(2).map((path) => resolve(path));

/** The one tensor of a safetensors file of f32. */
function tensor(path) {
  const bytes = readFileSync(path);
  const end = 8 + Number(bytes.readBigUInt64LE());
  const [, { shape, data_offsets: [from, to] }] =
    Object.entries(JSON.parse(bytes.subarray(8, end))).find(([name]) => name !== "__metadata__");
  const data = bytes.buffer.slice(bytes.byteOffset + end + from, bytes.byteOffset + end + to);
  return { width: shape[1], values: new Float32Array(data) };
}

env.allowRemoteModels = false;
env.localModelPath = `${dirname(folder)}/`;
const { width, values } = tensor(vectors);
const texts = readFileSync(file, "utf8").split("\n").filter((text) => text.trim());
let far = 0;
for (const dtype of ["fp32", "fp16", "q8"]) {
  const embed = await pipeline("feature-extraction", basename(folder), { dtype });
  let furthest = 0;
  let least = 1;
  for (const [at, text] of texts.entries()) {
    const { data } = await embed(text, { pooling: "mean", normalize: true });
    const own = values.subarray(at * width, (at + 1) * width);
    furthest = data.reduce((most, value, i) => Math.max(most, Math.abs(value - own[i])), furthest);
    least = Math.min(least, data.reduce((sum, value, i) => sum + value * own[i], 0));
  }
  console.log(`${dtype}: ${texts.length} texts, numbers to ${furthest.toExponential(1)}, least cosine ${least.toFixed(5)}`);
  if (dtype === "fp32") far = furthest;
}
process.exit(far <= 1e-4 ? 0 : 1);
