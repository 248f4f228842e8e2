// Compares the tokens that a page makes of texts with those of the program; see tools/check_page_tokens.sh.

import { readFileSync } from "node:fs";
import { Tokenizer } from "../crates/web/assets/tokenizers/tokenizers.min.mjs";
import { Texts } from "../crates/web/assets/inputs.js";

const { recipe, tokenizer, texts, ids } = JSON.parse(readFileSync(process.argv[2]));
const own = new Texts(recipe, new Tokenizer(tokenizer, {}), tokenizer);
const problem = own.problem();
if (problem) console.log(`a page would refuse to answer: other tokens of ${JSON.stringify(problem)}`);
let others = 0;
let compared = 0;
texts.forEach((text, at) => {
  if (ids[at] === null) return;
  compared += 1;
  const tokens = own.encode(text).ids;
  if (tokens.join() === ids[at].join()) return;
  others += 1;
  if (others <= 10) console.log(`${JSON.stringify(text)}: ${tokens} here, ${ids[at]} by the program`);
});
console.log(`${compared} texts, ${others} of them with other tokens`);
process.exit(problem || others ? 1 : 0);
