// What a text, a picture or a row of numbers is to a plan: the values of its inputs.

/** What a head that chooses among positions has at padding. */
const FAR_BELOW = -3e4;

/** The numbers of examples, normalised as in training: with f32's rounding at each step. */
export function numbersOf({ shape, picture, mean, std }, rows, examples) {
  const length = shape.reduce((product, side) => product * side, 1);
  const plane = shape.length === 3 ? shape[1] * shape[2] : 1;
  const { fround } = Math;
  const features = new Float32Array(rows * length);
  const of = (list, at) => (list.length === 1 ? list[0] : list[Math.floor(at / plane)]);
  examples.forEach(({ values }, row) => values.forEach((value, at) => {
    const number = picture ? fround(value / 255) : fround(value);
    const spread = fround(of(std, at)) || 1;
    features[row * length + at] = fround(fround(number - fround(of(mean, at))) / spread);
  }));
  return { features };
}

const WEIGHTS = {
  first: (weights) => (weights[0] = 1),
  last: (weights, count) => (weights[count - 1] = 1),
  mean: (weights, count) => weights.fill(1 / count, 0, count),
  "mean-sqrt-length": (weights, count) => weights.fill(1 / Math.sqrt(count), 0, count),
  "weighted-mean": (weights, count) => {
    for (let at = 0; at < count; at++) weights[at] = (at + 1) / ((count * (count + 1)) / 2);
  },
  max: (weights, count) => weights.fill(FAR_BELOW).fill(0, 0, count),
};

/** The inputs of texts, each its tokens' numbers and types; padding is no token at all. */
export function tokensOf(recipe, rows, length, texts) {
  const filled = (of) => {
    const all = new Int32Array(rows * length).fill(-1);
    texts.forEach((text, row) => text.ids.forEach((id, at) => (all[row * length + at] = of(text, at))));
    return all;
  };
  const values = { tokens: filled((text, at) => text.ids[at]), lengths: new Int32Array(rows) };
  texts.forEach((text, row) => (values.lengths[row] = text.ids.length));
  if (recipe.firstPosition !== null) values.positions = filled((_, at) => recipe.firstPosition + at);
  if (recipe.types) values["token types"] = filled((text, at) => text.types[at]);
  if (recipe.pooling === "words") {
    const places = texts.flatMap((text, row) => text.words.map((word) => row * length + word));
    values["masked tokens"] = new Int32Array(rows * length).fill(-1);
    values["masked tokens"].set(places);
    return values;
  }
  values.pooling = new Float32Array(rows * length);
  if (recipe.pooling === "max") values.pooling.fill(FAR_BELOW);
  texts.forEach((text, row) =>
    WEIGHTS[recipe.pooling](values.pooling.subarray(row * length, (row + 1) * length), text.ids.length));
  return values;
}

/** Chinese characters beyond the first 65,536, around which BERT's normaliser puts blanks, and the library none. */
const FAR_CHINESE = /[\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

const partsChinese = (normaliser) =>
  normaliser?.normalizers?.some(partsChinese) ?? (normaliser?.type === "BertNormalizer" && normaliser.handle_chinese_chars);

/** Turns texts into tokens as the program does that made the page. */
export class Texts {
  constructor(recipe, tokenizer, { normalizer }) {
    this.recipe = recipe;
    this.tokenizer = tokenizer;
    this.parts = partsChinese(normalizer);
  }

  #bare(text) {
    const parted = this.parts ? text.replace(FAR_CHINESE, " $& ") : text;
    return this.tokenizer.encode(parted, { add_special_tokens: false }).ids;
  }

  #cut(ids, most) {
    if (ids.length <= most) return ids;
    return this.recipe.cutsLeft ? ids.slice(ids.length - most) : ids.slice(0, most);
  }

  /** Puts around texts what their model expects. */
  #around({ tokens, types }, texts) {
    const ids = [];
    const all = [];
    tokens.forEach((special, at) => {
      ids.push(...special, ...(texts[at] ?? []));
      all.push(...special.map(() => types[2 * at]), ...(texts[at] ?? []).map(() => types[2 * at + 1]));
    });
    return { ids, types: all };
  }

  /** A text, or a pair of them, the longer of which is cut first. */
  encode(first, second) {
    const around = second === undefined ? this.recipe.single : this.recipe.pair;
    const room = this.recipe.maxLength - around.tokens.flat().length;
    if (second === undefined) return this.#around(around, [this.#cut(this.#bare(first), room)]);
    const texts = [this.#bare(first), this.#bare(second)];
    let [short, long] = texts.map(({ length }) => length).sort((a, b) => a - b);
    if (short + long > room) {
      long = short > room ? short : Math.max(short, room - short);
      if (short + long > room) [short, long] = [Math.floor(room / 2), Math.floor(room / 2) + (room % 2)];
      const swapped = texts[0].length > texts[1].length;
      const most = swapped ? [long, short] : [short, long];
      return this.#around(around, texts.map((ids, at) => this.#cut(ids, most[at])));
    }
    return this.#around(around, texts);
  }

  /** A text's words, and which token stands for each; words that are cut off or become no token stand for none. */
  encodeWords(words) {
    const { single, maxLength, blanks } = this.recipe;
    let ids = [];
    const firsts = words.map((word) => {
      const own = this.#bare(blanks && !/^\s/.test(word) ? ` ${word}` : word);
      const first = own.length ? ids.length : -1;
      ids.push(...own);
      return first;
    });
    const before = single.tokens[0].length;
    const all = ids.length;
    ids = this.#cut(ids, maxLength - single.tokens.flat().length);
    const lost = this.recipe.cutsLeft ? all - ids.length : 0;
    const is = (first) => first >= lost && first - lost < ids.length;
    const shown = firsts.flatMap((first, word) => (is(first) ? [word] : []));
    return { ...this.#around(single, [ids]), shown, words: shown.map((word) => firsts[word] - lost + before) };
  }

  /** The first of the stored texts whose tokens are others here, if any. */
  problem() {
    const { checks, pooling } = this.recipe;
    return checks.find(({ text, second, ids }) => {
      const own = pooling === "words" ? this.encodeWords(text.split(" ")) : this.encode(text, second);
      return own.ids.length !== ids.length || own.ids.some((id, at) => id !== ids[at]);
    });
  }
}
