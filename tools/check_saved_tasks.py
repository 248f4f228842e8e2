"""Holds students of every task to transformers: loads each by its AutoModel, and compares what it says with what the program
measured.

    distil-gpu run ner.toml --out ner          # and so on
    distil-gpu eval ner/student --data ner.toml --json > ner.json
    python tools/check_saved_tasks.py token-classification ner/student ner.jsonl ner.json

The file of data has the columns that its task reads by default: JSON lines with `tokens` and `ner_tags`, with `question`,
`context` and `answers`, with `text` and `labels` (a list), or with `text` and `score`.
"""

import json
import sys

import numpy as np
import torch
import transformers as hf


def rows(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def encoded(tokenizer, *texts, **more):
    return tokenizer(*texts, return_tensors="pt", truncation=True, **more)


def token_classification(folder, data):
    from seqeval.metrics import f1_score

    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForTokenClassification.from_pretrained(folder).eval()
    truth, predicted = [], []
    for row in data:
        batch = encoded(tokenizer, row["tokens"], is_split_into_words=True)
        classes = model(**batch).logits[0].argmax(-1).tolist()
        words = batch.word_ids()
        tags = ["O"] * len(row["tokens"])
        for place, word in enumerate(words):
            if word is not None and (place == 0 or words[place - 1] != word):
                tags[word] = model.config.id2label[classes[place]]
        truth.append(row["ner_tags"])
        predicted.append(tags)
    return {"f1": f1_score(truth, predicted)}


def question_answering(folder, data):
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    answerable = any(not row["answers"]["text"] for row in data)
    exact = 0
    for row in data:
        batch = encoded(tokenizer, row["question"], row["context"], return_offsets_mapping=True)
        places = batch.pop("offset_mapping")[0].tolist()
        output = model(**batch)
        start, end = output.start_logits[0], output.end_logits[0]
        context = [i for i, part in enumerate(batch.sequence_ids()) if part == 1]
        best = max(
            ((start[i] + end[j]).item(), -i, -j) for i in context for j in context if i <= j < i + 30
        )
        none = (start[0] + end[0]).item()
        text = row["context"][places[-best[1]][0] : places[-best[2]][1]]
        if answerable and none > best[0]:
            text = ""
        exact += any(text == answer for answer in row["answers"]["text"] or [""])
    return {"exact_match": exact / len(data)}


def sequence(folder, data):
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return model, torch.cat([model(**encoded(tokenizer, row["text"])).logits for row in data]).numpy()


def regression(folder, data):
    model, found = sequence(folder, data)
    assert model.config.problem_type == "regression", model.config.problem_type
    return {"pearson": np.corrcoef(found[:, 0], [row["score"] for row in data])[0, 1]}


def multi_label(folder, data):
    from sklearn.metrics import f1_score

    model, found = sequence(folder, data)
    assert model.config.problem_type == "multi_label_classification", model.config.problem_type
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    truth = [[name in row["labels"] for name in names] for row in data]
    return {"micro_f1": f1_score(truth, found > 0, average="micro")}


def main():
    task, folder, data, measured = sys.argv[1:]
    with torch.no_grad():
        found = globals()[task.replace("-", "_")](folder, rows(data))
    known = json.load(open(measured, encoding="utf-8"))
    for key, value in found.items():
        print(f"{task}: {key} {value:.6f} by transformers, {known[key]:.6f} here")
        assert abs(value - known[key]) < 1e-4


if __name__ == "__main__":
    main()
