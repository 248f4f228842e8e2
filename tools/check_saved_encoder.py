#!/usr/bin/env python3
"""Load a saved encoder in Hugging Face transformers and hold its logits to distil-gpu's.

    distil-gpu logits runs/movie-sentiment/student --input recipes/movie-sentiment.toml --out logits.safetensors
    tools/check_saved_encoder.py runs/movie-sentiment/student data/cache/movie-sentiment/test.csv logits.safetensors

Tokens, padding and logits are transformers' own, from the folder alone. Prints the largest difference of a logit, and
fails if it is above 1e-4. Needs torch and transformers.
"""

import argparse
import csv

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("texts", help="CSV file with a column of texts")
    parser.add_argument("logits", help="what distil-gpu answered: tensor `test` [texts, classes]")
    parser.add_argument("--column", default="text")
    parser.add_argument("--limit", type=int, default=500, help="only so many texts, the first")
    args = parser.parse_args()

    with open(args.texts, encoding="utf-8", newline="") as file:
        texts = [row[args.column] for row in csv.DictReader(file)][: args.limit]
    ours = load_file(args.logits)["test"][: len(texts)]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForSequenceClassification.from_pretrained(args.model).eval()
    theirs = []
    with torch.no_grad():
        for start in range(0, len(texts), 32):
            batch = texts[start : start + 32]
            inputs = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            theirs.append(model(**inputs).logits)
    difference = (torch.cat(theirs) - ours).abs().max().item()
    print(f"{type(model).__name__}: {len(texts)} texts, largest difference of a logit {difference:.2e}")
    if difference > 1e-4:
        raise SystemExit("the logits differ")


if __name__ == "__main__":
    main()
