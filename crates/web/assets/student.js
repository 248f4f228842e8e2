// A model that answers: examples to logits, by the plan that fits, which must pass its self-test first.

import { NoDevice, Runtime } from "./runtime.js";
import { Texts, numbersOf, tokensOf } from "./inputs.js";

/** How far a logit may be from the stored one, relative to the largest of them where that is above 1. */
export const TOLERANCE = 1e-4;
/** How often a device that was lost is opened again. */
const MOST_TRIES = 3;
/** Milliseconds within which a device that fails says that it is lost. */
const LOST_WITHIN = 1000;

/** What was computed here is not what the program computed that made the page. */
export class Wrong extends Error {}

export class Student {
  #weights;
  #tested = new Map();
  #tries = 0;

  /** `weights` are the segments' bytes; `Tokenizer` and `tokenizer` are of models of texts. */
  constructor(bundle, weights, Tokenizer, tokenizer) {
    this.bundle = bundle;
    this.#weights = weights;
    this.furthest = 0;
    this.lost = () => {};
    if (bundle.input.kind === "texts") this.texts = new Texts(bundle.input, new Tokenizer(tokenizer, {}), tokenizer);
  }

  /** Opens a device and runs the first self-test. */
  async open() {
    const wrong = this.texts?.problem();
    if (wrong) throw new Wrong(`this browser makes other tokens of “${wrong.text.trim().slice(0, 60)}”`);
    this.#tested.clear();
    this.runtime = await Runtime.open(this.bundle, this.#weights, (reason) => this.#reopen(reason));
    await this.#test(0);
  }

  async #reopen(reason) {
    this.#tries += 1;
    const again = this.#tries < MOST_TRIES;
    this.opening = again ? this.open() : Promise.reject(new NoDevice(`The graphics device was lost (${reason})`));
    this.opening.catch(() => {});
    this.lost(reason, this.opening);
  }

  #inputs(plan, rows) {
    const { rows: most, length } = plan;
    const { input } = this.bundle;
    return input.kind === "texts" ? tokensOf(input, most, length, rows) : numbersOf(input, most, rows);
  }

  /** Holds a plan to its stored logits, once. */
  #test(number) {
    if (!this.#tested.has(number)) this.#tested.set(number, this.#compare(number));
    return this.#tested.get(number);
  }

  async #compare(number) {
    const plan = this.bundle.plans[number];
    const { rows, logits } = plan.probe;
    const own = await this.runtime.run(number, this.#inputs(plan, rows));
    const scale = logits.reduce((most, logit) => Math.max(most, Math.abs(logit)), 1);
    const distance = logits.reduce((most, logit, at) => {
      const apart = Math.abs(logit - own[at]);
      return apart <= most ? most : apart;
    }, 0);
    this.furthest = Math.max(this.furthest, distance);
    if (!(distance <= TOLERANCE * scale)) {
      const shape = plan.length ? `${plan.rows} × ${plan.length} tokens` : `${plan.rows}`;
      throw new Wrong(`its answers to a stored batch of ${shape} are off by ${distance.toPrecision(2)}`);
    }
  }

  /** Tests every plan, and how far the furthest logit is from the stored one. */
  async test() {
    for (const number of this.bundle.plans.keys()) await this.#test(number);
    return this.furthest;
  }

  /** The plan for so many examples of so many tokens: the shortest that has room, one at a time where there is no other. */
  #plan(count, length) {
    const room = this.bundle.plans.map((plan, number) => ({ ...plan, number })).filter((plan) => plan.length >= length);
    const shortest = Math.min(...room.map((plan) => plan.length));
    const fit = room.filter((plan) => plan.length === shortest).sort((a, b) => a.rows - b.rows);
    return fit.find((plan) => plan.rows >= count) ?? fit.at(-1);
  }

  /**
   * The answers to examples, a Float32Array each, in their order. An example is a text, a pair of texts, an array of a
   * text's words, or an array of numbers, of pictures from 0 to 255; see `kind` of the bundle's input.
   */
  async answer(examples) {
    for (;;) {
      await this.opening;
      const { runtime } = this;
      try {
        return await this.#answer(examples);
      } catch (error) {
        // What a device was asked that is lost meanwhile is asked again of the next one.
        const lost = runtime.device.lost.then(() => !runtime.closed);
        const soon = new Promise((done) => setTimeout(done, LOST_WITHIN, false));
        if (error instanceof Wrong || !(await Promise.race([lost, soon]))) throw error;
      }
    }
  }

  async #answer(examples) {
    const { input, model } = this.bundle;
    const read = (example) => {
      if (input.kind === "numbers") return { values: example };
      if (input.pooling === "words") return this.texts.encodeWords(example);
      return Array.isArray(example) ? this.texts.encode(...example) : this.texts.encode(example);
    };
    const rows = examples.map(read);
    const answers = [];
    for (let from = 0; from < rows.length;) {
      const left = rows.slice(from);
      const plan = this.#plan(left.length, Math.max(...left.map(({ ids }) => ids?.length ?? 0)));
      const batch = left.slice(0, plan.rows);
      await this.#test(plan.number);
      const logits = await this.runtime.run(plan.number, this.#inputs(plan, batch));
      let at = 0;
      for (const row of batch) {
        const numbers = model.width * (row.shown ? row.shown.length : 1);
        answers.push(Object.assign(logits.slice(at, at + numbers), { shown: row.shown }));
        at += numbers;
      }
      from += batch.length;
    }
    return answers;
  }

  /** Milliseconds of an answer to one example, and examples a second in batches: medians, after one that is not counted. */
  async measure(example, times = 30, batches = 5) {
    const median = async (examples, times) => {
      await this.answer(examples);
      const taken = [];
      for (let time = 0; time < times; time++) {
        const begun = performance.now();
        await this.answer(examples);
        taken.push(performance.now() - begun);
      }
      return taken.sort((a, b) => a - b)[times >> 1];
    };
    const latency = await median([example], times);
    const rows = Math.max(...this.bundle.plans.map((plan) => plan.rows));
    return { latency, rows, rate: (1e3 * rows) / (await median(Array(rows).fill(example), batches)) };
  }

  /** What the numbers of an answer mean: probabilities, or values as they are. */
  scores(logits) {
    const { task } = this.bundle.model;
    if (task === "multi-label") return Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
    if (task === "regression" || task === "embedding") return Array.from(logits);
    const most = Math.max(...logits);
    const exps = Array.from(logits, (logit) => Math.exp(logit - most));
    const sum = exps.reduce((a, b) => a + b, 0);
    return exps.map((exp) => exp / sum);
  }
}

/** The cosine of two vectors. */
export function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, at) => sum + value * y[at], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)) || 0;
}
