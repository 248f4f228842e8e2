// The page: loads the model, holds it to its self-test, and only then shows what it answers.

import { NoDevice, bytesOfBase64 } from "./runtime.js";
import { Student, Wrong } from "./student.js";
import { el, numberView, pictureView, similarityView, textView, wordView } from "./views.js";

/** Milliseconds of an answer up to which its speed is measured unasked. */
const QUICK = 150;

const TASKS = {
  classification: "tells which class an example is of",
  "multi-label": "tells which labels an example has",
  regression: "gives an example a value",
  "token-classification": "tags the words of a text",
  embedding: "makes a vector of a text, so that texts can be compared",
};

const id = (name) => document.getElementById(name);
const megabytes = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} KB` : `${(bytes / 1e6).toFixed(1)} MB`);
const milliseconds = (time) => (time < 10 ? `${time.toFixed(2)} ms` : time < 2000 ? `${Math.round(time)} ms` : `${(time / 1e3).toFixed(1)} s`);

function say(text, problem = false) {
  const state = id("state");
  state.textContent = text;
  state.classList.toggle("problem", problem);
  state.setAttribute("role", problem ? "alert" : "status");
}

/** Lets the browser draw what was said. */
const shown = () => new Promise((done) => setTimeout(done));

/** What lies within the page, or else beside it. */
export async function part(name) {
  const own = id(name);
  if (own) return JSON.parse(own.textContent);
  const answer = await fetch(`${name}.json`);
  if (!answer.ok) throw new Error(`${name}.json cannot be loaded (${answer.status})`);
  return answer.json();
}

async function weightsOf(segments, progress) {
  let loaded = 0;
  const count = (bytes) => progress((loaded += bytes));
  const all = [];
  for (const [number, { bytes, sha256 }] of segments.entries()) {
    const whole = new Uint8Array(bytes);
    const chunks = document.querySelectorAll(`script[data-segment="${number}"]`);
    let at = 0;
    const append = (chunk) => {
      if (at + chunk.length <= bytes) whole.set(chunk, at);
      at += chunk.length;
      count(chunk.length);
    };
    for (const chunk of chunks) {
      append(bytesOfBase64(chunk.textContent));
      chunk.remove();
      await shown();
    }
    if (!chunks.length) {
      const answer = await fetch(`weights-${number}.bin`);
      if (!answer.ok) throw new Error(`weights-${number}.bin cannot be loaded (${answer.status})`);
      for (let reader = answer.body.getReader(), next; !(next = await reader.read()).done;) append(next.value);
    }
    if (at !== bytes) throw new Error(`the weights have ${at} bytes, and should have ${bytes}: load the page again`);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
    const digits = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (digits !== sha256) throw new Error("the weights are damaged: load the page again");
    all.push(whole);
  }
  return all;
}

function tell(bundle) {
  const { model, card } = bundle;
  id("lead").textContent = `A small model that ${TASKS[model.task]}. It runs on this device alone: nothing that you enter is sent anywhere.`;
  const about = id("about");
  if (card.sentence) about.append(el("p", { className: "note", textContent: card.sentence }));
  about.append(...card.warnings.map((textContent) => el("p", { className: "warning", textContent })));
  const facts = [["What it is", model.summary], ["Parameters", model.parameters.toLocaleString("en")],
    ["Weights", `${model.weights}, ${megabytes(bytesOf(bundle))}`]];
  if (model.labels.length) facts.push(["Labels", model.labels.slice(0, 40).join(", ") + (model.labels.length > 40 ? ", …" : "")]);
  if (model.rounding) facts.push([`${model.weights} moves an answer by`, `at most ${model.rounding.toPrecision(2)} (of a logit, on a stored example)`]);
  about.append(factsOf(facts));
  if (card.rows.length) {
    const head = el("tr", {}, el("td"), ...card.columns.map((textContent) => el("th", { scope: "col", textContent })));
    const rows = card.rows.map(({ name, cells }) => el("tr", {}, el("th", { scope: "row", textContent: name }), ...cells.map((textContent) => el("td", { textContent }))));
    const table = el("table", { className: "arms" }, el("caption", { textContent: "What the run measured, by the program that trained it" }), el("thead", {}, head), el("tbody", {}, ...rows));
    const scroll = el("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "What the run measured");
    about.append(el("h3", { textContent: "Beside its teacher" }), scroll);
  }
  id("card").hidden = false;
}

const factsOf = (facts) => el("dl", { className: "facts" }, ...facts.map(([name, value]) =>
  el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }))));

const viewOf = ({ input, model }) => {
  if (input.kind === "numbers") return input.picture ? pictureView : numberView;
  return { "token-classification": wordView, embedding: similarityView }[model.task] ?? textView;
};

/** What a graphics device calls itself. */
export function nameOf({ info: { vendor, architecture, device, description } }) {
  return [...new Set([description, vendor, architecture, device])].filter(Boolean).join(", ") || "a device without a name";
}

function deviceOf({ adapter }) {
  const name = nameOf(adapter);
  const software = adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter;
  return software ? `${name}: no graphics card but a program that stands in for one, which is slow` : name;
}

const passed = ({ furthest }) => `passed: the furthest logit is ${furthest.toPrecision(2)} from the stored one`;

/** Shows the answers to what is entered; what was entered before and is answered later is left out. */
function answering(student, facts) {
  let last = 0;
  const out = id("answer");
  const show = (...nodes) => {
    last += 1;
    out.replaceChildren(...nodes);
  };
  const answer = async (examples, then) => {
    const own = (last += 1);
    const begun = performance.now();
    try {
      const answers = await student.answer(examples);
      facts.first ??= performance.now() - begun;
      facts.tell();
      if (own === last) then(answers);
    } catch (error) {
      failed(error);
    }
  };
  return { answer, show };
}

/** Says in a sentence what went wrong, and hides all answers. */
function failed(error) {
  id("try").hidden = true;
  id("measure").disabled = id("test").disabled = true;
  document.documentElement.dataset.state = "failed";
  if (error instanceof Wrong) {
    say(`No answers are shown: with this browser and graphics driver the model does not compute what it was made to, as ${error.message}. Another browser or a newer driver may do better.`, true);
  } else if (error instanceof NoDevice) {
    say(`${error.message}, which this page needs to compute. Current Chrome, Edge and Safari have it on most computers and phones, and Firefox on Windows and Macs.`, true);
  } else {
    say(`The model could not be started: ${error.message}.`, true);
  }
}

function device(student, bytes) {
  const facts = { first: null, speed: null };
  facts.tell = () => {
    const { runtime, bundle } = student;
    const list = [["Graphics device", deviceOf(runtime)], ["Self-test", passed(student)],
      [`Compiling ${bundle.pipelines.length} kernels`, milliseconds(runtime.compileTime)], ["Bytes of the weights", megabytes(bytes)]];
    if (facts.first !== null) list.push(["First answer", milliseconds(facts.first)]);
    if (facts.speed) {
      list.push(["An answer, median of 30", milliseconds(facts.speed.latency)]);
      list.push([`Answers a second, ${facts.speed.rows} at once`, facts.speed.rate.toFixed(facts.speed.rate < 10 ? 2 : 0)]);
    }
    id("facts").replaceWith(Object.assign(factsOf(list), { id: "facts" }));
  };
  facts.tell();
  id("device").hidden = false;
  return facts;
}

function buttons(student, facts, view) {
  const work = (button, said, call) => {
    id(button).onclick = async () => {
      id(button).disabled = true;
      id("measured").textContent = said;
      try {
        id("measured").textContent = await call();
        facts.tell();
        id(button).disabled = false;
      } catch (error) {
        failed(error);
      }
    };
  };
  work("measure", "Measuring", async () => {
    facts.speed = await student.measure(view.sample());
    return "";
  });
  work("test", "Testing", async () => {
    await student.test();
    return `All ${student.bundle.plans.length} plans ${passed(student)}.`;
  });
}

const bytesOf = ({ segments }) => segments.reduce((sum, segment) => sum + segment.bytes, 0);

/** The model, held to its first self-test; `Tokenizer` is of models that read texts, `progress` is told what is done. */
export async function load(bundle, Tokenizer, progress) {
  if (!globalThis.navigator.gpu) throw new NoDevice("This browser offers no WebGPU");
  const all = megabytes(bytesOf(bundle));
  const weights = await weightsOf(bundle.segments, (loaded) => progress(`Loading the weights: ${megabytes(loaded)} of ${all}`));
  const student = new Student(bundle, weights, Tokenizer, Tokenizer && (await part("tokenizer")));
  progress(`Compiling ${bundle.pipelines.length} kernels and testing them`);
  await shown();
  await student.open();
  return student;
}

/** Begins the page; `Tokenizer` is of models that read texts. */
export async function start(Tokenizer) {
  try {
    const bundle = await part("bundle");
    tell(bundle);
    const student = await load(bundle, Tokenizer, say);
    // For the browser's console and other scripts.
    globalThis.student = student;
    const facts = device(student, bytesOf(bundle));
    student.lost = (reason, opening) => {
      say("The graphics device was lost, and is opened again");
      opening.then(() => say("Ready again: the graphics device was lost once"), failed);
    };
    const { answer, show } = answering(student, facts);
    const view = viewOf(bundle)(student, answer, show);
    id("input").append(view.element);
    id("try").hidden = false;
    buttons(student, facts, view);
    say("Ready: the self-test passed");
    document.documentElement.dataset.state = "ready";
    if (Tokenizer) id("footer").append(" Texts become tokens by @huggingface/tokenizers, under the Apache License 2.0.");
    await view.begin();
    if (facts.first !== null && facts.first < QUICK) id("measure").click();
  } catch (error) {
    failed(error);
  }
}
