#!/usr/bin/env bash
# Holds the tokens that a page of a model makes of texts to this program's.
#
#     tools/check_page_tokens.sh MODEL [TEXTS]
#
# MODEL is a folder with a tokenizer; TEXTS a file with a text a line, whose lines come beside 4,000 made of letters, marks
# and signs of many scripts. Needs Node and Python.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$1 lines=${2:-/dev/null}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 - "$lines" > "$folder/texts.json" <<'PYTHON'
import json, random, sys

random.seed(1)
BLOCKS = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff), (0x600, 0x6ff),
          (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff), (0x2000, 0x206f), (0x20a0, 0x20bf),
          (0x2100, 0x21ff), (0x2600, 0x27bf), (0x3000, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xf900, 0xfaff),
          (0xfe00, 0xfe0f), (0xff00, 0xffef), (0x1f300, 0x1faff), (0x1d400, 0x1d7ff), (0x20000, 0x2a6df), (0x0, 0x1f)]
texts = open(sys.argv[1], encoding="utf8").read().split("\n")
for number in range(4000):
    words = []
    for _ in range(random.randint(1, 12)):
        first, last = random.choice(BLOCKS)
        words.append("".join(chr(random.randint(first, last)) for _ in range(random.randint(1, 6))))
    texts.append((" " if number % 2 else "").join(words))
json.dump([text for text in texts if text.strip()], sys.stdout)
PYTHON
cargo run --quiet -p distil-gpu-web --example token_ids -- "$model" "$folder/texts.json" > "$folder/ids.json"
cp -r crates/web/assets "$folder/assets"
# Node takes .js for modules only where a package says so.
echo '{ "type": "module" }' > "$folder/package.json"
sed 's|\.\./crates/web/assets|./assets|' tools/check_page_tokens.mjs > "$folder/check.js"
node "$folder/check.js" "$folder/ids.json"
