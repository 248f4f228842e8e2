#!/usr/bin/env python3
"""Hold the tokenizers of saved students to transformers: ids by AutoTokenizer, and logits by pipeline.

    cargo build --release
    tools/check_saved_tokenizers.py target/release/distil-gpu [--write]

Makes small models with tokenizers of many kinds (cased, uncased, accents kept, Chinese characters kept together, bytes,
a space put in front, Unigram, an old folder with vocab.txt), lets the program make students of them, whole and
trimmed, and compares with the folders of students and copied teachers: the ids that AutoTokenizer gives with those of
the saved tokenizer.json, which are the program's own, and the logits of pipeline with those of `distil-gpu logits`.
With --write, the models and what transformers gave become tests/fixtures/tokenizers. Needs torch and transformers.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/tokenizers"
# Students learn from these, and are trimmed to their tokens.
TRAIN = [
    "A good film, and a Good Cast!",
    "the café in Zürich was très bon",
    "THE WORST Movie of 2023…",
    "我喜欢这部电影 very much",
    "emoji 😀🎬 say more than words",
    "naïve Ångström coöperate résumé",
]
# What the two are compared on, words among them that no student was trimmed to.
TEXTS = [
    *TRAIN,
    "Café CAFÉ cafe cafe\u0301 Cafés",
    "電影很好 film电影film",
    "😀 👩‍👩‍👧 🎬🎬",
    "  leading spaces, tabs\tand\nlines  ",
    "ÉCOLE école Ecole straße STRASSE İstanbul",
    "[MASK] good <mask> film [SEP] </s> the newword",
    "a text that is longer than the student reads, word by word, until nothing of it is left over at the end",
    "\u00a0non\u00adbreaking ﬁne ① ½ Ⅷ",
    "…",
]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
MAX_LENGTH = 20


def word_piece(lower: bool, accents: bool | None, chinese: bool) -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=330, special_tokens=BERT_SPECIAL, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    return made


def byte_level(prefix: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=ROBERTA_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    made.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    made.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=prefix
    )
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220, special_tokens=ROBERTA_SPECIAL, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXTS * 3, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def described(made: Tokenizer, special: list[str], roles: list[str]) -> dict:
    """tokenizer_config.json, as transformers 4 writes it."""
    added = {
        str(id): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for id, token in sorted(made.get_added_tokens_decoder().items())
    }
    return {"added_tokens_decoder": added, **dict(zip(roles, special)), "model_max_length": 32}


def bert(made: Tokenizer, **keys) -> tuple[Tokenizer, dict, str]:
    roles = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    config = described(made, BERT_SPECIAL, roles) | {"tokenizer_class": "BertTokenizer", "clean_up_tokenization_spaces": True}
    return made, config | keys, "bert"


def roberta(made: Tokenizer, **keys) -> tuple[Tokenizer, dict, str]:
    roles = ["cls_token", "pad_token", "sep_token", "unk_token", "mask_token"]
    config = described(made, ROBERTA_SPECIAL, roles) | {"bos_token": "<s>", "eos_token": "</s>"}
    return made, config | {"tokenizer_class": "RobertaTokenizer"} | keys, "roberta"


def kinds() -> dict[str, tuple[Tokenizer, dict, str]]:
    accents = word_piece(True, False, True)
    accents.add_tokens(["newword"])
    distil = bert(word_piece(False, None, True), do_lower_case=False, tokenizer_class="DistilBertTokenizer")
    return {
        "cased": bert(word_piece(False, None, True), do_lower_case=False, name_or_path="elsewhere/model"),
        "uncased": bert(word_piece(True, None, True), do_lower_case=True, strip_accents=None),
        "accents": bert(accents, do_lower_case=True, strip_accents=False),
        "chinese": bert(word_piece(True, None, False), do_lower_case=True, tokenize_chinese_chars=False),
        # The file says nothing of letters: a class that is told nothing makes them small.
        "silent": (word_piece(False, None, True), {"model_max_length": 32}, "bert"),
        "left": bert(word_piece(True, None, True), do_lower_case=True, truncation_side="left"),
        "distilbert": (distil[0], distil[1], "distilbert"),
        "vocab-txt": bert(word_piece(False, None, True), do_lower_case=False),
        "bytes": roberta(byte_level(False), add_prefix_space=False),
        "prefix-space": roberta(byte_level(True), add_prefix_space=True),
        "unigram": roberta(unigram(), tokenizer_class="PreTrainedTokenizerFast"),
    }


def model(family: str, vocab_size: int) -> torch.nn.Module:
    torch.manual_seed(0)
    if family == "distilbert":
        sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12}
        made = DistilBertForSequenceClassification(
            DistilBertConfig(vocab_size=vocab_size, max_position_embeddings=32, **sizes, **LABELS)
        )
    elif family == "roberta":
        config = RobertaConfig(
            vocab_size=vocab_size, max_position_embeddings=34, type_vocab_size=1, **SIZES, **LABELS
        )
        made = RobertaForSequenceClassification(config)
    else:
        made = BertForSequenceClassification(
            BertConfig(vocab_size=vocab_size, max_position_embeddings=32, **SIZES, **LABELS)
        )
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def make(folder: Path, name: str, made: Tokenizer, config: dict, family: str) -> None:
    model(family, made.get_vocab_size()).save_pretrained(folder)
    if name == "vocab-txt":
        words = sorted(made.get_vocab().items(), key=lambda item: item[1])
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words), encoding="utf-8")
        del config["added_tokens_decoder"]
    else:
        made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if name in ("accents", "prefix-space"):
        roles = {key: value for key, value in config.items() if key.endswith("_token")}
        roles["mask_token"] = {**config["added_tokens_decoder"]["4"]}
        del roles["mask_token"]["special"]
        (folder / "special_tokens_map.json").write_text(json.dumps(roles), encoding="utf-8")
    if name == "accents":
        added = {"newword": made.token_to_id("newword")}
        (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")


def distil(program: str, home: Path, source: Path, out: Path, vocabulary: str) -> None:
    (home / "train.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": ["bad", "good"][i % 2]}) + "\n" for i, text in enumerate(TRAIN)),
        encoding="utf-8",
    )
    recipe = f"""device = "cpu"
data = {{ source = "text", train = "train.jsonl", test = "train.jsonl" }}
teacher = {{ folder = "{source}" }}
train = {{ steps = 1, batch = 6, optimizer = {{ name = "sgd", lr = 1e-30 }} }}
[student]
model = {{ type = "encoder", from = "{source}", vocabulary = "{vocabulary}", max_length = {MAX_LENGTH} }}
"""
    (home / "recipe.toml").write_text(recipe, encoding="utf-8")
    subprocess.run([program, "run", home / "recipe.toml", "--out", out, "-q"], check=True, stdout=subprocess.DEVNULL)


def compare(program: str, home: Path, folder: Path) -> tuple[list[list[int]], float]:
    """The ids by AutoTokenizer of a saved model, held to the program's, and the largest difference of a logit."""
    auto = AutoTokenizer.from_pretrained(folder)
    theirs = [auto(text, truncation=True)["input_ids"] for text in TEXTS]
    # The program's ids: its library, its file, its cut.
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    own.enable_truncation(config["model_max_length"], direction=config["truncation_side"])
    ours = [own.encode(text).ids for text in TEXTS]
    wrong = [text for text, a, b in zip(TEXTS, theirs, ours) if a != b]
    if wrong:
        raise SystemExit(f"{folder}: {type(auto).__name__} gives other ids of {wrong}")
    # Rows of tables, as a .txt would lose blanks at its ends.
    (home / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    answers = home / "answers.safetensors"
    command = [program, "logits", folder, "--input", home / "texts.jsonl", "--out", answers, "--device", "cpu", "-q"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    logits = load_file(answers)["logits"]
    classify = pipeline("text-classification", model=str(folder), top_k=None, function_to_apply="none")
    found = classify(TEXTS, truncation=True)
    order = [classify.model.config.id2label[i] for i in range(2)]
    found = [[next(one["score"] for one in row if one["label"] == name) for name in order] for row in found]
    return theirs, (torch.tensor(found) - logits).abs().max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--write", action="store_true", help="write the fixtures of the Rust tests")
    args = parser.parse_args()
    program = str(args.program.resolve())
    expected = {"train": TRAIN, "texts": TEXTS, "max_length": MAX_LENGTH, "kinds": {}}
    count, largest = 0, 0.0
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        for name, (made, config, family) in kinds().items():
            source = home / name
            make(source, name, made, config, family)
            known = expected["kinds"][name] = {}
            for vocabulary in ("full", "trimmed"):
                run = home / "runs" / f"{name}-{vocabulary}"
                distil(program, home, source, run, vocabulary)
                for arm in ("teacher", "student"):
                    ids, difference = compare(program, home, run / arm)
                    saved = json.loads((run / arm / "tokenizer_config.json").read_text(encoding="utf-8"))
                    print(
                        f"{name}, {vocabulary}, {arm}: {saved['tokenizer_class']}, {len(TEXTS)} texts, "
                        f"{sum(map(len, ids))} ids, all alike; largest difference of a logit {difference:.1e}"
                    )
                    count, largest = count + 1, max(largest, difference)
                    if arm == "student":
                        known[vocabulary] = {"ids": ids, "tokenizer_config": saved}
            if args.write:
                shutil.rmtree(FIXTURES / name, ignore_errors=True)
                shutil.copytree(source, FIXTURES / name)
    print(f"{count} folders, largest difference of a logit {largest:.1e}")
    if largest > 1e-5:
        raise SystemExit("the logits differ")
    if args.write:
        text = json.dumps(expected, ensure_ascii=False, separators=(",", ":"))
        (FIXTURES / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
