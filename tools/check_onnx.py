"""Holds `distil-gpu export` to onnxruntime, onnx.checker and transformers.

    python tools/check_onnx.py target/debug/distil-gpu
    python tools/check_onnx.py target/release/distil-gpu runs/movie-sentiment/student data/cache/movie-sentiment/test.csv

Of tiny models of every family (tests/fixtures/families) with every head: the checker's full check; what onnxruntime makes
of transformers' batch, against what transformers made of it in f64; and for several numbers and lengths of texts, padded
behind, against transformers in f32. Of classifiers and embedders also 200 texts, against the program's own `logits`. Then
the same of a perceptron of pictures. Differences are the largest of any number: at most 1e-4 in f32.

Last, tiny runs on pictures and on texts are exported with `--measure`: each ONNX file is measured by onnxruntime, and the one in
f32 gives all of the student's answers.

With a model and a file of texts (column `text`), that model's files are held to the program's `logits` of the first 200
texts, and the int8 file's answers to those of f32 on all texts: at least 99 % are the same. Sizes and times are printed.

Needs onnx, onnxruntime, tokenizers and safetensors. Without torch and transformers the batches of several shapes are left out,
and it says so.
"""

import csv
import json
import math
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import numpy
import onnx
import onnxruntime
import tokenizers
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

try:
    import torch
    import transformers
except ImportError:
    torch = None
    print("torch and transformers are not there: batches of several shapes are left out", flush=True)

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures"
HEADS = {
    "classes": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "language": "AutoModelForMaskedLM",
    "embedding": "AutoModel",
}
SHAPES = [(1, 1), (1, 7), (3, 9), (5, 14)]
F32, F16 = 1e-4, 2e-2
program = os.path.abspath(sys.argv[1])
failures = []


def told(what, good, shown=""):
    print("ok    " if good else "WRONG ", what, shown, flush=True)
    if not good:
        failures.append(what)


def run(*arguments):
    subprocess.run([program, *map(str, arguments), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def export(folder, to):
    run("export", folder, "--to", to)
    for name in ["model", "model_quantized", "model_fp16"]:
        onnx.checker.check_model(str(to / f"onnx/{name}.onnx"), full_check=True)
    return {name: session(to / f"onnx/{name}.onnx") for name in ["model", "model_quantized", "model_fp16"]}


def given(model, ids, lengths, types=None):
    """What a file reads of padded token numbers."""
    mask = (numpy.arange(ids.shape[1]) < numpy.array(lengths)[:, None]).astype(numpy.int64)
    types = numpy.zeros_like(ids) if types is None else types
    all_inputs = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": types * mask}
    return {value.name: all_inputs[value.name].astype(numpy.int64) for value in model.get_inputs()}


def furthest(a, b):
    return float(numpy.abs(numpy.asarray(a, dtype=numpy.float64) - b).max())


def folder_of(fixture, head, folder):
    """The model with this head, as transformers saves it."""
    meta = fixture.metadata()
    known = set(fixture.keys())

    def tensor(name):
        bare = name.split(".", 1)[1] if "." in name else name
        return fixture.get_tensor(next(key for key in (f"{head}/{name}", f"trunk/{name}", f"trunk/{bare}") if key in known))

    save_file({name: tensor(name) for name in json.loads(meta[f"{head}.names"])}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(meta[f"{head}.config"])
    shutil.copy(FIXTURES / "bert/tokenizer.json", folder)


def real(outputs, head, lengths):
    """The numbers of an answer that are not padding's."""
    if head in ("classes", "embedding"):
        return outputs
    return numpy.concatenate([row[:length].ravel() for row, length in zip(outputs, lengths)])


def answer(model, head, inputs):
    outputs = dict(zip([value.name for value in model.get_outputs()], model.run(None, inputs)))
    if head == "span":
        return numpy.stack([outputs["start_logits"], outputs["end_logits"]], axis=2)
    return outputs["sentence_embedding" if head == "embedding" else "logits"]


def of_transformers(model, head, inputs):
    with torch.no_grad():
        made = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    if head == "span":
        return torch.stack([made.start_logits, made.end_logits], dim=2).numpy()
    if head == "embedding":
        mask = torch.from_numpy(inputs["attention_mask"])[:, :, None]
        mean = (made.last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean).numpy()
    return made.logits.numpy()


def check_fixture(model, fixture, head):
    """Against what transformers made of a batch in f64; how far."""
    lengths = fixture.get_tensor("lengths")
    ids, types = (fixture.get_tensor(name).astype(numpy.int64).reshape(len(lengths), -1) for name in ("tokens", "types"))
    found, wanted = answer(model, head, given(model, ids, lengths, types)), fixture.get_tensor(f"{head}.logits")
    if head in ("tokens", "language"):
        found = found.reshape(-1, found.shape[-1])[fixture.get_tensor("places")]
    elif head == "span":
        found = numpy.concatenate([f[:n].ravel() for f, n in zip(found, lengths)])
        wanted = numpy.concatenate([w[:, :n].T.ravel() for w, n in zip(wanted, lengths)])
    elif head == "embedding":
        wanted = wanted / numpy.linalg.norm(wanted, axis=1, keepdims=True)
    return furthest(found, wanted.reshape(found.shape))


def check_shapes(model, folder, head, seed):
    """Against transformers, for batches of several shapes; how far."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    torch_model = getattr(transformers, HEADS[head]).from_pretrained(folder, config=config, dtype=torch.float32).eval()
    generator, most = numpy.random.default_rng(seed), 0.0
    for rows, length in SHAPES:
        ids = generator.integers(5, 40, (rows, length))
        lengths = [length] + [int(generator.integers(1, length + 1)) for _ in range(rows - 1)]
        inputs = given(model, ids, lengths)
        # Where positions count from the padding token's number, transformers looks for it among the ids.
        padding = config.pad_token_id or 0
        inputs["input_ids"] = numpy.where(inputs["attention_mask"] == 1, ids, padding)
        wanted = of_transformers(torch_model, head, inputs)
        found = answer(model, head, inputs)
        most = max(most, furthest(real(found, head, lengths), real(wanted, head, lengths)))
    return most


def most_tokens(models):
    return int(models["model"].get_modelmeta().custom_metadata_map["max_length"])


def encoded(tokenizer, model, texts):
    rows = [tokenizer.encode(text) for text in texts]
    rows = [(row.ids, row.type_ids) for row in rows]
    ids = numpy.zeros((len(rows), max(len(row[0]) for row in rows)), dtype=numpy.int64)
    types = ids.copy()
    for at, (of_ids, of_types) in enumerate(rows):
        ids[at, : len(of_ids)], types[at, : len(of_types)] = of_ids, of_types
    return given(model, ids, [len(row[0]) for row in rows], types)


def check_texts(models, folder, texts, head, scratch):
    """Against the program's own logits; how far each file is, and the share of answers that the int8 file gives as f32 does."""
    (scratch / "texts.txt").write_text("\n".join(texts) + "\n")
    run("logits", folder, "--input", scratch / "texts.txt", "--out", scratch / "logits.safetensors", "--device", "cpu")
    wanted = load_file(scratch / "logits.safetensors")["logits"]
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most_tokens(models))
    found = {}
    for name, model in models.items():
        parts = [answer(model, head, encoded(tokenizer, model, texts[at : at + 16])) for at in range(0, len(texts), 16)]
        found[name] = numpy.concatenate(parts)
    same = (found["model"].argmax(1) == found["model_quantized"].argmax(1)).mean()
    return {name: furthest(values, wanted) for name, values in found.items()}, float(same)


def check_family(path, scratch):
    with safe_open(path, framework="np") as fixture:
        for head in HEADS:
            if f"{head}.config" not in fixture.metadata():
                continue
            folder, to = scratch / "model", scratch / "exported"
            shutil.rmtree(folder, ignore_errors=True), shutil.rmtree(to, ignore_errors=True)
            folder.mkdir()
            folder_of(fixture, head, folder)
            what = f"{path.stem} {head}"
            try:
                models = export(folder, to)
                of_batch = check_fixture(models["model"], fixture, head)
                of_shapes = check_shapes(models["model"], folder, head, 1) if torch else 0.0
                half = check_fixture(models["model_fp16"], fixture, head)
                eighth = check_fixture(models["model_quantized"], fixture, head)
            except Exception as error:  # One that fails is told, and the others are checked.
                told(what, False, f"{type(error).__name__}: {str(error)[:300]}")
                continue
            shapes = f"{of_shapes:.1e}" if torch else "left out"
            shown = f"f64 {of_batch:.1e}, shapes {shapes}, f16 {half:.1e}, int8 {eighth:.1e}"
            good = of_batch <= F32 and of_shapes <= F32 and half <= F16
            if head in ("classes", "embedding"):
                words = "good bad film films the a b c d e f g . , ! ?".split()
                generator = random.Random(2)
                texts = [" ".join(generator.choices(words, k=generator.randint(1, 10))) for _ in range(200)]
                far, same = check_texts(models, to, texts, head, scratch)
                shown += f"; 200 texts: f32 {far['model']:.1e}, int8 agrees {100 * same:.1f} %"
                good = good and far["model"] <= F32
            told(what, good, shown)


def check_perceptron(scratch):
    """Pictures of two channels, each with a normalisation of its own."""
    generator = numpy.random.default_rng(3)
    folder, to = scratch / "mlp", scratch / "exported-mlp"
    folder.mkdir()
    sizes = [2 * 6 * 5, 40, 40, 3]
    tensors = {}
    for at, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        tensors[f"layers.{at}.weight"] = generator.normal(0, 0.3, (outputs, inputs)).astype(numpy.float32)
        tensors[f"layers.{at}.bias"] = generator.normal(0, 0.3, outputs).astype(numpy.float32)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "mlp", "input_size": sizes[0], "hidden_sizes": sizes[1:-1], "num_classes": 3, "activation": "gelu",
        "dropout": 0.1, "input_dropout": 0.0, "input_shape": [2, 6, 5], "class_names": ["a", "b", "c"],
        "normalisation": {"mean": [0.3, 0.6], "std": [0.2, 0.0]},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    models = export(folder, to)
    pixels = generator.integers(0, 256, (50, 2, 6, 5), dtype=numpy.uint8)
    save_file({"features": pixels}, scratch / "pixels.safetensors")
    run("logits", to, "--input", scratch / "pixels.safetensors", "--out", scratch / "mlp.safetensors", "--device", "cpu")
    wanted = load_file(scratch / "mlp.safetensors")["logits"]
    features = (pixels.reshape(50, -1) / 255).astype(numpy.float32)
    far = {}
    for name, model in models.items():
        parts = [model.run(["logits"], {"input": part})[0] for part in (features[:1], features[1:33], features[33:])]
        far[name] = furthest(numpy.concatenate(parts), wanted)
    told("mlp", far["model"] <= F32, ", ".join(f"{name} {value:.1e}" for name, value in far.items()))


RUN = """task = "classification"
device = "cpu"
[data]
{data}
[teacher]
model = {{ {teacher} }}
[student]
model = {{ {student} }}
[train]
epochs = 2
batch = 16
"""


def check_measured(scratch):
    """What `--measure` tells of the ONNX files of a run's student, for pictures and for pairs of texts of all lengths."""
    generator, words = random.Random(4), "good bad film films the a . , ! ?".split()
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 12))) for _ in range(300)]
    rows = [f'"{a}","{b}",{"yes" if "good" in a else "no"}' for a, b in zip(texts[::2], texts[1::2])]
    (scratch / "pairs.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    encoder = f'type = "encoder", from = "{FIXTURES / "bert"}"'
    mlp = 'type = "mlp", hidden_sizes = '
    cases = {
        "pictures": ('source = "embedded"\ntrain_limit = 200\ntest_limit = 100', mlp + "[32]", mlp + "[24]"),
        "pairs": ('source = "text"\ntrain = "pairs.csv"\ntest = "pairs.csv"\ntext = ["a", "b"]', encoder, encoder + ", layers = [0]"),
    }  # fmt: skip
    for name, (data, teacher, student) in cases.items():
        recipe, folder, to = scratch / f"{name}.toml", scratch / name, scratch / f"exported-{name}"
        recipe.write_text(RUN.format(data=data, teacher=teacher, student=student))
        run("run", recipe, "--out", folder)
        asked = ["--measure", "--only", "onnx,onnx-int8,onnx-f16", "--python", sys.executable, "--device", "cpu"]
        run("export", folder / "student", "--to", to, *asked)
        ways = json.loads((folder / "exports.json").read_text())["ways"]
        files = [way for way in ways if way["name"].startswith("ONNX")]
        found = [way.get("measured", {"furthest": math.inf, "agreement": 0.0}) for way in files]
        good = len(found) == 3 and found[0]["agreement"] == 1.0 and found[0]["furthest"] <= F32
        good = good and found[1]["agreement"] >= 0.9 and found[2]["furthest"] <= F16
        shown = ", ".join(f"{100 * way['agreement']:.1f} % to {way['furthest']:.1e}" for way in found)
        told(f"--measure, {name}", good, shown)


def check_model(folder, file, scratch):
    """A real model: 200 texts to the program's logits, all of them for int8; sizes and times."""
    with open(file, newline="") as rows:
        texts = [" ".join(row["text"].split()) for row in csv.DictReader(rows)]
    to = scratch / "exported-real"
    models = export(folder, to)
    config = json.loads((to / "config.json").read_text())
    head = "classes" if "ForSequenceClassification" in config["architectures"][0] else "embedding"
    tokenizer = tokenizers.Tokenizer.from_file(str(to / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most_tokens(models))
    (scratch / "texts.txt").write_text("\n".join(texts[:200]) + "\n")
    run("logits", folder, "--input", scratch / "texts.txt", "--out", scratch / "logits.safetensors")
    wanted = load_file(scratch / "logits.safetensors")["logits"]
    answers = {}
    for name, model in models.items():
        batches = [encoded(tokenizer, model, texts[at : at + 32]) for at in range(0, len(texts), 32)]
        begun = time.perf_counter()
        answers[name] = numpy.concatenate([answer(model, head, batch) for batch in batches])
        rate = len(texts) / (time.perf_counter() - begun)
        one = encoded(tokenizer, model, texts[:1])
        times = []
        for _ in range(30):
            begun = time.perf_counter()
            answer(model, head, one)
            times.append(time.perf_counter() - begun)
        size = (to / f"onnx/{name}.onnx").stat().st_size / 1e6
        latency = 1e3 * sorted(times)[15]
        print(f"      {name}: {size:.1f} MB, {rate:.0f} texts a second, one text in {latency:.2f} ms", flush=True)
    far = furthest(answers["model"][:200], wanted)
    told("f32 of 200 texts", far <= F32, f"{far:.1e}")
    for name in ["model_fp16", "model_quantized"]:
        far = furthest(answers[name], answers["model"])
        if head == "classes":
            same = (answers[name].argmax(1) == answers["model"].argmax(1)).mean()
            told(f"{name} of {len(texts)} texts", same >= 0.99, f"{100 * same:.2f} % the same answers, numbers to {far:.1e}")
        else:
            cosine = float((answers[name] * answers["model"]).sum(1).min())
            told(f"{name} of {len(texts)} texts", cosine >= 0.95, f"least cosine {cosine:.5f}, numbers to {far:.1e}")


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        if len(sys.argv) > 2:
            check_model(pathlib.Path(sys.argv[2]), sys.argv[3], scratch)
        else:
            for path in sorted((FIXTURES / "families").glob("*.safetensors")):
                check_family(path, scratch)
            check_perceptron(scratch)
            check_measured(scratch)
    if failures:
        sys.exit(f"{len(failures)} are wrong: " + ", ".join(failures))


main()
