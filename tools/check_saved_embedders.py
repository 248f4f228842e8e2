#!/usr/bin/env python3
"""Hold the vectors of models of sentence embeddings, loaded and saved, to sentence-transformers.

    cargo build --release
    tools/check_saved_embedders.py target/release/distil-gpu [--write]

Makes small models of sentence-transformers with each pooling, with and without Normalize, and with Dense modules.
Compares the vectors that `distil-gpu logits` makes with those of SentenceTransformer.encode: of the model itself, and of
the student and the copied teacher of a run. With --write, the models and what sentence-transformers gave become
tests/fixtures/sentence. Needs torch, transformers and sentence-transformers.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from check_saved_tokenizers import SIZES, TEXTS, TRAIN, bert, word_piece
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures/sentence"
BASE = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
MAX_LENGTH = 12


def base(folder: Path) -> None:
    made, config, _ = bert(word_piece(True, None, True), do_lower_case=True)
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(vocab_size=made.get_vocab_size(), max_position_embeddings=32, **SIZES), add_pooling_layer=False
    )
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def kinds(width: int) -> dict[str, list]:
    torch.manual_seed(1)
    tanh = Dense(width, 6, activation_function=torch.nn.Tanh())
    plain = Dense(width, 5, bias=False, activation_function=torch.nn.Identity())
    gelu = Dense(5, 7, activation_function=torch.nn.GELU())
    return {
        "cls": [Pooling(width, "cls"), Normalize()],
        "mean": [Pooling(width, "mean"), Normalize()],
        "mean-unscaled": [Pooling(width, "mean")],
        "mean-sqrt": [Pooling(width, "mean_sqrt_len_tokens")],
        "weighted": [Pooling(width, "weightedmean")],
        "last": [Pooling(width, "lasttoken"), Normalize()],
        "max": [Pooling(width, "max"), Normalize()],
        "dense": [Pooling(width, "mean"), tanh],
        "dense-twice": [Pooling(width, "cls"), plain, gelu, Normalize()],
    }


def distil(program: str, home: Path, source: Path, out: Path) -> None:
    for name in ("train", "test"):
        (home / f"{name}.txt").write_text("\n".join(TRAIN * 3) + "\n", encoding="utf-8")
    recipe = f"""task = "embedding"
device = "cpu"
data = {{ source = "text", train = "train.txt", test = "test.txt" }}
teacher = {{ folder = "{source}" }}
train = {{ steps = 4, batch = 6, optimizer = {{ name = "adamw", lr = 1e-2 }} }}
[student]
model = {{ type = "encoder", from = "{source}", hidden_size = 4, vocabulary = "trimmed", dropout = 0.0 }}
"""
    (home / "recipe.toml").write_text(recipe, encoding="utf-8")
    subprocess.run([program, "run", home / "recipe.toml", "--out", out, "-q"], check=True, stdout=subprocess.DEVNULL)


def vectors(program: str, home: Path, folder: Path) -> torch.Tensor:
    (home / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    out = home / "answers.safetensors"
    command = [program, "logits", folder, "--input", home / "texts.jsonl", "--out", out, "--device", "cpu", "-q"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return load_file(out)["logits"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--write", action="store_true", help="write the fixtures of the Rust tests")
    args = parser.parse_args()
    program = str(args.program.resolve())
    warnings.simplefilter("ignore")
    expected, largest, lowest, count = {}, 0.0, 1.0, 0
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        base(home / "base")
        if args.write:
            shutil.rmtree(FIXTURES, ignore_errors=True)
            (FIXTURES / "base").mkdir(parents=True)
            for name in BASE:
                shutil.copy(home / "base" / name, FIXTURES / "base" / name)
        for name, modules in kinds(SIZES["hidden_size"]).items():
            source = home / name
            transformer = Transformer(str(home / "base"))
            SentenceTransformer(modules=[transformer, *modules], device="cpu").save(str(source))
            # As older versions write it: the tokenizer says 32, and this is what counts.
            shutil.copy(home / "base" / "tokenizer_config.json", source)
            path = source / "sentence_bert_config.json"
            keys = json.loads(path.read_text(encoding="utf-8")) | {"max_seq_length": MAX_LENGTH, "do_lower_case": False}
            path.write_text(json.dumps(keys, indent=2) + "\n", encoding="utf-8")
            distil(program, home, source, home / "runs" / name)
            for folder in (source, home / "runs" / name / "teacher", home / "runs" / name / "student"):
                theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
                ours = vectors(program, home, folder)
                difference = (theirs - ours).abs().max().item()
                cosine = torch.nn.functional.cosine_similarity(theirs, ours).min().item()
                print(
                    f"{name}, {folder.name}: {list(theirs.shape)}, largest difference {difference:.1e}, "
                    f"lowest cosine {cosine:.7f}"
                )
                count, largest, lowest = count + 1, max(largest, difference), min(lowest, cosine)
                if folder == source:
                    expected[name] = theirs.contiguous()
            if args.write:
                for path in source.rglob("*"):
                    place = path.relative_to(source)
                    own = str(place) not in (*BASE, "README.md")
                    if path.is_file() and own:
                        (FIXTURES / name / place).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, FIXTURES / name / place)
    print(f"{count} folders, largest difference {largest:.1e}, lowest cosine {lowest:.7f}")
    if largest > 1e-5:
        raise SystemExit("the vectors differ")
    if args.write:
        save_file(expected, FIXTURES / "vectors.safetensors")
        (FIXTURES / "texts.json").write_text(json.dumps(TEXTS, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
