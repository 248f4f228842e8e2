// Asks the model of an exported page for the answers to the examples, and sends them back with the time they took: all of
// them, or where there is no graphics card as many as there is time for.

/** Passes over one example, whose median is its latency: so many, and at least so many where they take long. */
const PASSES = 30;
const FEWEST = 3;
/** Milliseconds for these passes, and for the examples, as far as whole batches allow. */
const FOR_ONE = 20e3;
const FOR_ALL = 120e3;
/** Milliseconds of an answer from which on examples are answered one by one: a batch has a self-test of its own size. */
const SLOW = 500;

/** The median time of an answer to one example, after one that is not counted. */
async function latencyOf(student, example) {
  const taken = [];
  await student.answer([example]);
  for (let left = FOR_ONE; taken.length < PASSES && (left > 0 || taken.length < FEWEST); left -= taken.at(-1)) {
    const begun = performance.now();
    await student.answer([example]);
    taken.push(performance.now() - begun);
  }
  return taken.sort((a, b) => a - b)[taken.length >> 1];
}

/** The numbers below a count in an order whose every beginning is evenly spread: by their bits, the last one first. */
function spread(count) {
  const bits = Math.ceil(Math.log2(count));
  const turned = (number) => Array.from({ length: bits }, (_, bit) => (number >> bit) & 1).reduce((all, bit) => 2 * all + bit, 0);
  return Array.from({ length: 2 ** bits }, (_, number) => turned(number)).filter((number) => number < count);
}

/** What the examples are to the page: texts, pairs of texts, or numbers. */
async function examplesOf({ texts, length }, { picture }) {
  if (texts) return texts.map((text) => (text.length > 1 ? text : text[0]));
  const numbers = new Float32Array(await (await fetch("features.bin")).arrayBuffer());
  const shades = picture ? numbers.map((number) => number * 255) : numbers;
  return Array.from({ length: shades.length / length }, (_, row) => shades.subarray(row * length, (row + 1) * length));
}

async function answers() {
  const { load, nameOf, part } = await import("./page.js");
  const bundle = await part("bundle");
  const Tokenizer = bundle.input.kind === "texts" ? (await import("./tokenizers.js")).Tokenizer : null;
  const student = await load(bundle, Tokenizer, () => {});
  const asked = await part("examples");
  const examples = await examplesOf(asked, bundle.input);
  const latency = await latencyOf(student, examples[asked.one]);
  // The examples lie by their lengths, so those of a batch are alike.
  const most = latency > SLOW ? 1 : Math.max(...bundle.plans.map((plan) => plan.rows));
  const found = [];
  const begun = performance.now();
  for (const batch of spread(Math.ceil(examples.length / most))) {
    if (found.length && performance.now() - begun > FOR_ALL) break;
    const first = batch * most;
    (await student.answer(examples.slice(first, first + most))).forEach((logits, at) => found.push({ row: first + at, logits }));
  }
  const seconds = (performance.now() - begun) / 1e3;
  found.sort((a, b) => a.row - b.row);
  const version = /Chrome\/(\d+)/.exec(navigator.userAgent)?.[1] ?? "";
  return {
    rows: found.map(({ row }) => row), logits: found.flatMap(({ logits }) => Array.from(logits)),
    latency_ms: latency, examples_per_second: found.length / seconds,
    runtime: `Chromium ${version}, ${nameOf(student.runtime.adapter)}`,
  };
}

const said = await answers().catch((error) => ({ error: error.message }));
await fetch("answers", { method: "POST", body: JSON.stringify(said) });
