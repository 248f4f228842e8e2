"""Makes tests/fixtures/word_tokens.json: words and questions as transformers makes tokens of them.

    python tools/make_token_fixtures.py     # needs transformers; reads tests/fixtures/tokenizers

Words are aligned as transformers' example of token classification does it (`run_ner.py`): the first piece of a word has its
tag. Windows of questions are those of its example of question answering (`run_qa.py`); an answer's first token is looked for
among the context's alone.
"""

import json
import pathlib

from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).parent.parent / "tests/fixtures"
OUT = ROOT / "word_tokens.json"
NAMES = ["uncased", "bytes", "unigram", "left"]
WORDS = [
    ["Good", "films", "are", "never", "bad", "."],
    ["U.S.", "naïve", "re-read", "一个", "x"],
    ["the"] * 12,
    ["good", "", "bad"],
    ["films,", "unbelievable", "goodness", "of", "the", "bad", "films"],
]
CONTEXT = (
    "The good film, seen in 1990, was not bad. Naïve people 一个 said: the films are good, the "
    "films are bad; nobody knows why the film was seen at all by so many people."
)
QUESTIONS = [
    ("When was the film seen?", CONTEXT, ["1990"]),
    ("  Who said it?", CONTEXT, ["Naïve people 一个"]),
    ("By whom?", CONTEXT, ["by so many people.", "people"]),
    ("Where?", CONTEXT, []),
    ("What was bad?", "A film.", ["film"]),
    ("What is it called, and by whom?", "bad films " * 20, ["bad films bad films bad films bad films bad films"]),
]


def of_words(tokenizer, max_length):
    rows = []
    for words in WORDS:
        encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
        firsts, before = [None] * len(words), None
        for place, word in enumerate(encoded.word_ids()):
            if word is not None and word != before:
                firsts[word] = place
            before = word
        rows.append({"ids": encoded["input_ids"], "firsts": firsts})
    return rows


def label(offsets, sequences, start, end):
    """Places of the answer's first and last token, (0, 0) where it is not whole in the window."""
    context = [place for place, sequence in enumerate(sequences) if sequence == 1]
    if start is None or offsets[context[0]][0] > start or offsets[context[-1]][1] < end:
        return [0, 0]
    first = max(place for place in context if offsets[place][0] <= start)
    last = min(place for place in context if offsets[place][1] >= end)
    return [first, last]


def of_questions(tokenizer, max_length, stride):
    encoded = tokenizer(
        [question.lstrip() for question, _, _ in QUESTIONS],
        [context for _, context, _ in QUESTIONS],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    rows = []
    for window, question in enumerate(encoded["overflow_to_sample_mapping"]):
        _, context, answers = QUESTIONS[question]
        sequences, offsets = encoded.sequence_ids(window), encoded["offset_mapping"][window]
        start = context.index(answers[0]) if answers else None
        end = start + len(answers[0]) if answers else None
        rows.append(
            {
                "question": question,
                "ids": encoded["input_ids"][window],
                "types": encoded["token_type_ids"][window],
                "places": [place if sequences[i] == 1 else None for i, place in enumerate(offsets)],
                "span": label(offsets, sequences, start, end),
            }
        )
    return rows


def main():
    made = {"words": WORDS, "tokenizers": {}}
    made["questions"] = [
        {"question": q, "context": c, "answers": [[c.index(answer), answer] for answer in answers]}
        for q, c, answers in QUESTIONS
    ]
    for name in NAMES:
        folder = ROOT / "tokenizers" / name
        byte_level = name == "bytes"
        tokenizer = AutoTokenizer.from_pretrained(folder, **({"add_prefix_space": True} if byte_level else {}))
        plain = AutoTokenizer.from_pretrained(folder)
        made["tokenizers"][name] = {
            "words": {length: of_words(tokenizer, length) for length in [10, 64]},
            "windows": [
                {"max_length": length, "stride": stride, "rows": of_questions(plain, length, stride)}
                for length, stride in [(64, 16), (48, 3)]
            ],
        }
    OUT.write_text(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
