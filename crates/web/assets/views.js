// What a person enters, and how answers are shown: a view for each kind of model.

import { cosine } from "./student.js";
import { drawing, imageOf, pixelsOf, pixelsOfUri, valuesOf } from "./pictures.js";

/** Labels shown of an answer, at most. */
const MOST_LABELS = 10;
/** Features that have a field each, at most; more are a list. */
const MOST_FIELDS = 32;
/** Milliseconds without a change after which a text is answered. */
const PAUSE = 350;
/** Sides of the canvas to draw on, in pixels. */
const PAD = 280;
/** Colours of tags. */
const HUES = [215, 25, 150, 300, 60, 350, 190, 100];

/** An element with properties and children. */
export function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const button = (textContent, onclick, properties = {}) => el("button", { type: "button", textContent, onclick, ...properties });

function field(id, text, control) {
  control.id = id;
  return el("div", { className: "field" }, el("label", { htmlFor: id, textContent: text }), control);
}

function bar(share, className = "") {
  const inner = el("div", { className: "bar" }, el("span", { className: "figure", textContent: percent(share) }));
  inner.style.setProperty("--share", share);
  return el("td", { className }, inner);
}

/** Labels with their scores as bars, beside the teacher's where they are known. */
function bars(student, answer, example) {
  const { labels, task } = student.bundle.model;
  const scores = student.scores(answer);
  if (task === "regression") {
    return labels.map((label, at) =>
      el("p", { className: "value" }, `${labels.length > 1 ? `${label}: ` : ""}`, el("strong", { textContent: scores[at].toPrecision(5) })));
  }
  const teacher = new Map(example?.teacher ?? []);
  const order = labels.map((_, at) => at).sort((a, b) => scores[b] - scores[a]);
  const shown = order.filter((at, place) => place < MOST_LABELS || teacher.has(labels[at]));
  const best = task === "multi-label" ? (at) => scores[at] > 0.5 : (at) => at === order[0];
  const rows = shown.map((at) => {
    const row = el("tr", { className: best(at) ? "best" : "" }, el("th", { scope: "row", textContent: labels[at], title: labels[at] }), bar(scores[at]));
    if (teacher.size) {
      const own = teacher.get(labels[at]);
      row.append(own === undefined ? el("td", { textContent: "–" }) : bar(own, "teacher"));
    }
    return row;
  });
  const head = ["label", "this page", ...(teacher.size ? ["the teacher"] : [])];
  const said = task === "multi-label" ? "How likely each label is" : `Most likely: ${labels[order[0]]}, ${percent(scores[order[0]])}`;
  const truth = example?.truth ? `. In the data: ${example.truth}` : "";
  return [el("table", { className: "bars" }, el("caption", { textContent: said + truth }),
    el("thead", {}, el("tr", {}, ...head.map((textContent) => el("th", { scope: "col", textContent })))),
    el("tbody", {}, ...rows))];
}

/** The run's examples as buttons. */
function examples(list, choose) {
  if (!list.length) return [];
  const item = (example) => {
    const picture = example.picture && el("img", { src: example.picture, alt: example.truth ?? "an example" });
    const node = button(picture ? "" : example.text, () => choose(example), { className: picture ? "picture" : "text" });
    if (picture) node.append(picture);
    else node.title = example.text;
    return el("li", {}, node);
  };
  return [el("h3", { textContent: "Examples" }), el("ul", { className: "examples" }, ...list.map(item))];
}

/** Calls back when nothing was entered for a while. */
function paused(call) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, PAUSE);
  };
}

const textExamples = (student) => student.bundle.card.examples.filter(({ text }) => text !== undefined);

/** One text, or two where the model was taught on pairs: one answer. */
export function textView(student, answer, show) {
  const first = el("textarea", { rows: 4, spellcheck: false });
  const second = el("textarea", { rows: 3, spellcheck: false });
  let chosen = null;
  const ask = () => {
    if (!first.value.trim()) return show();
    const example = second.value ? [first.value, second.value] : first.value;
    return answer([example], ([own]) => show(...bars(student, own, chosen?.text === first.value ? chosen : null)));
  };
  const list = textExamples(student);
  const choose = (example) => {
    chosen = example;
    first.value = example.text;
    second.value = "";
    return ask();
  };
  first.oninput = second.oninput = paused(ask);
  const more = el("details", {}, el("summary", { textContent: "A second text" }), field("second", "For models of pairs of texts", second));
  const element = el("div", {}, field("text", "Your text", first),
    el("div", { className: "actions" }, button("Answer", ask, { className: "first" }), button("Clear", () => {
      first.value = second.value = "";
      first.focus();
      show();
    })), ...(student.bundle.input.pair ? [more] : []), ...examples(list, choose));
  return { element, begin: () => list.length && choose(list[0]), sample: () => first.value || list[0]?.text || "A text of a few words." };
}

/** Two texts: how alike their vectors are. */
export function similarityView(student, answer, show) {
  const list = textExamples(student);
  const boxes = [0, 1].map((at) => el("textarea", { rows: 4, spellcheck: false, value: list[at]?.text ?? "" }));
  const ask = () => {
    if (boxes.some((box) => !box.value.trim())) return show();
    return answer(boxes.map((box) => box.value), (vectors) => {
      const alike = cosine(...vectors);
      const row = el("tr", { className: "best" }, el("th", { scope: "row", textContent: alike.toFixed(4) }), bar(Math.max(0, alike)));
      show(el("table", { className: "bars" }, el("caption", { textContent: `The cosine of two vectors of ${vectors[0].length} numbers: 1 is alike, 0 is unrelated` }), el("tbody", {}, row)));
    });
  };
  boxes.forEach((box) => (box.oninput = paused(ask)));
  const element = el("div", {}, el("div", { className: "two" }, field("text", "One text", boxes[0]), field("second", "Another text", boxes[1])),
    el("div", { className: "actions" }, button("Compare", ask, { className: "first" })),
    ...examples(list, (example) => {
      boxes[1].value = boxes[0].value;
      boxes[0].value = example.text;
      return ask();
    }));
  return { element, begin: () => list.length > 1 && ask(), sample: () => boxes[0].value || "A text of a few words." };
}

/** A text whose words are tagged. */
export function wordView(student, answer, show) {
  const { labels, width } = student.bundle.model;
  const list = textExamples(student);
  const box = el("textarea", { rows: 4, spellcheck: false });
  const words = () => box.value.match(/[\p{L}\p{N}\p{M}]+(?:[-'’.][\p{L}\p{N}\p{M}]+)*|[^\s]/gu) ?? [];
  const kinds = [...new Set(labels.map((label) => label.replace(/^[BIES]-/, "")))].filter((kind) => kind !== "O");
  const marked = (word, logits) => {
    const scores = student.scores(logits);
    const label = labels[scores.indexOf(Math.max(...scores))];
    if (label === "O") return word;
    const node = el("mark", { textContent: word, title: percent(Math.max(...scores)) }, el("small", { textContent: label }));
    const hue = HUES[kinds.indexOf(label.replace(/^[BIES]-/, "")) % HUES.length];
    node.style.setProperty("--tag", `hsl(${hue} 75% 50%)`);
    return node;
  };
  const ask = () => {
    const all = words();
    if (!all.length) return show();
    return answer([all], ([own]) => {
      const places = new Map(own.shown.map((word, at) => [word, own.subarray(at * width, (at + 1) * width)]));
      const spans = all.flatMap((word, at) => [places.has(at) ? marked(word, places.get(at)) : word, " "]);
      const lost = all.length - places.size;
      show(el("p", { className: "words" }, ...spans), ...(lost ? [el("p", { className: "note", textContent: `${lost} words are beyond what the model reads at once` })] : []));
    });
  };
  const choose = (example) => {
    box.value = example.text;
    return ask();
  };
  box.oninput = paused(ask);
  const element = el("div", {}, field("text", "Your text", box), el("div", { className: "actions" }, button("Mark the words", ask, { className: "first" })), ...examples(list, choose));
  return { element, begin: () => list.length && choose(list[0]), sample: () => (words().length ? words() : ["A", "text", "of", "words"]) };
}

/** A picture that is drawn, dropped or chosen. */
export function pictureView(student, answer, show) {
  const { shape, mean, background } = student.bundle.input;
  const canvas = el("canvas", { width: PAD, height: Math.round((PAD * shape[1]) / shape[2]), className: "draw", tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Draw here, or choose a picture below");
  const seen = el("canvas", { width: shape[2], height: shape[1], className: "seen" });
  seen.setAttribute("role", "img");
  seen.setAttribute("aria-label", "What the model sees");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const named = { white: "#ffffff", black: "#000000", grey: "#808080" };
  // What most pictures of numbers and clothes have, unless the model learnt another one.
  const paper = el("select", {}, ...[["#000000", "white on black"], ["#ffffff", "black on white"]].map(([value, text]) => el("option", { value, textContent: text })));
  paper.value = (background ? (named[background] ?? background) : mean.some((value) => value > 0.6) ? "#ffffff" : "#000000") === "#ffffff" ? "#ffffff" : "#000000";
  const behind = () => {
    const colour = background ? (named[background] ?? background) : "#ffffff";
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  };
  let values = null;
  const read = (image, example = null) => {
    values = valuesOf(image, shape, behind());
    seen.getContext("2d").putImageData(imageOf(values, shape), 0, 0);
    return answer([values], ([own]) => show(...bars(student, own, example)));
  };
  const drawn = () => read(context.getImageData(0, 0, canvas.width, canvas.height));
  const clear = () => {
    context.fillStyle = paper.value;
    context.fillRect(0, 0, canvas.width, canvas.height);
    show();
  };
  const put = (image) => {
    clear();
    const small = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = image.width > canvas.width;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  };
  const take = async (file) => {
    try {
      const image = await pixelsOf(file);
      put(image);
      await read(image);
    } catch {
      show(el("p", { className: "problem", textContent: `${file.name || "This"} is no picture that the browser can read` }));
    }
  };
  const choose = async (example) => {
    const image = await pixelsOfUri(example.picture);
    put(image);
    await read(image, example);
  };
  drawing(canvas, () => (paper.value === "#000000" ? "#ffffff" : "#000000"), drawn);
  paper.onchange = clear;
  const file = el("input", { type: "file", accept: "image/*", onchange: () => file.files[0] && take(file.files[0]) });
  const pad = el("div", { className: "pad" }, el("figure", {}, canvas, el("figcaption", { textContent: "Draw here, or drop a picture" })),
    el("figure", {}, seen, el("figcaption", { textContent: `What the model sees: ${shape[1]} × ${shape[2]}` })));
  pad.ondragover = (event) => {
    event.preventDefault();
    pad.classList.add("over");
  };
  pad.ondragleave = () => pad.classList.remove("over");
  pad.ondrop = (event) => {
    event.preventDefault();
    pad.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  };
  const list = student.bundle.card.examples.filter(({ picture }) => picture);
  const element = el("div", {}, pad, el("div", { className: "actions" }, el("label", { className: "button" }, "Choose a picture", file), button("Clear", clear)),
    field("paper", "How you draw", paper), ...examples(list, choose));
  clear();
  const blank = () => Array(shape[0] * shape[1] * shape[2]).fill(0);
  return { element, begin: () => list.length && choose(list[0]), sample: () => values ?? blank() };
}

/** Rows of numbers. */
export function numberView(student, answer, show) {
  const { shape, mean } = student.bundle.input;
  const count = shape.reduce((product, side) => product * side, 1);
  const typical = Array.from({ length: count }, (_, at) => Number((mean.length === 1 ? mean[0] : mean[at]).toPrecision(4)));
  const fields = count <= MOST_FIELDS ? typical.map((value, at) => el("input", { type: "number", step: "any", value, id: `feature-${at}` })) : [];
  const box = el("textarea", { rows: 4, spellcheck: false, value: typical.join(", ") });
  const numbers = (text) => text.split(/[\s,;]+/).filter((part) => part !== "").map(Number);
  const values = () => (fields.length ? fields.map((input) => (input.value === "" ? NaN : Number(input.value))) : numbers(box.value));
  const ask = () => {
    const row = values();
    if (row.length !== count || !row.every(Number.isFinite)) {
      return show(el("p", { className: "problem", textContent: `The model reads ${count} numbers, and these are ${row.filter(Number.isFinite).length}` }));
    }
    return answer([row], ([own]) => show(...bars(student, own)));
  };
  fields.forEach((input, at) => {
    input.oninput = paused(ask);
    // A row of a spreadsheet fills the fields from here on.
    input.onpaste = (event) => {
      const pasted = numbers(event.clipboardData.getData("text"));
      if (pasted.length < 2) return;
      event.preventDefault();
      pasted.slice(0, count - at).forEach((value, step) => (fields[at + step].value = value));
      ask();
    };
  });
  box.oninput = paused(ask);
  const line = (input, at) => el("tr", {}, el("th", { scope: "row" }, el("label", { htmlFor: input.id, textContent: `number ${at + 1}` })), el("td", {}, input));
  const table = el("div", { className: "scroll" }, el("table", { className: "grid" }, el("caption", { textContent: "An example's numbers, in the data's order; a pasted row fills those behind it" }), el("tbody", {}, ...fields.map(line))));
  const element = el("div", {}, fields.length ? table : field("numbers", `${count} numbers, parted by commas or blanks`, box), el("div", { className: "actions" }, button("Answer", ask, { className: "first" })));
  return { element, begin: ask, sample: () => typical };
}
