// Asks the model of an exported page for the answers to the examples, and sends them back with the time they took.

/** Passes over one example, whose median is its latency. */
const PASSES = 30;

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
  await student.test();
  const { latency } = await student.measure(examples[asked.one], PASSES, 1);
  const rows = Math.max(...bundle.plans.map((plan) => plan.rows));
  const logits = [];
  const begun = performance.now();
  for (let at = 0; at < examples.length; at += rows) {
    for (const answer of await student.answer(examples.slice(at, at + rows))) logits.push(...answer);
  }
  const seconds = (performance.now() - begun) / 1e3;
  const version = /Chrome\/(\d+)/.exec(navigator.userAgent)?.[1] ?? "";
  return {
    logits, latency_ms: latency, examples_per_second: examples.length / seconds,
    runtime: `Chromium ${version}, ${nameOf(student.runtime.adapter)}`,
  };
}

const said = await answers().catch((error) => ({ error: error.message }));
await fetch("answers", { method: "POST", body: JSON.stringify(said) });
