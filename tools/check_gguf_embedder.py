"""Holds a BERT embedder that distil-gpu wrote as GGUF to llama.cpp (by xllamacpp).

    target/debug/distil-gpu export data/cache/minilm --to minilm --only gguf
    python tools/check_gguf_embedder.py target/debug/distil-gpu minilm data/cache/movie-sentiment/unlabelled.txt

200 texts of the file, and some of many scripts: llama.cpp's tokens are those of tokenizers, and its vectors have a cosine of
at least 0.9999 to this program's. Needs xllamacpp, tokenizers, numpy and safetensors.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import numpy
import tokenizers
import xllamacpp
from safetensors.numpy import load_file

program, folder, file = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
SCRIPTS = ["Naïve CAFÉ, façade!", "don't-stop; (now)", "你好，世界 and films", "Привет, мир", "x = y**2", "😀 emoji", "$5 + 3% ~ @home"]
texts = [line.strip() for line in file.read_text().splitlines() if line.strip()][:200] + SCRIPTS

parameters = xllamacpp.CommonParams()
parameters.model.path = str(folder / "model.gguf")
parameters.n_ctx, parameters.warmup, parameters.cpuparams.n_threads = 512, False, 2
parameters.n_batch = parameters.n_ubatch = 512
parameters.embedding = True
parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(parameters)


def ask(path, request):
    data, kind = json.dumps(request).encode(), {"Content-Type": "application/json"}
    return json.load(urllib.request.urlopen(urllib.request.Request(server.listening_address + path, data, kind)))


tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()
same = sum(ask("/tokenize", {"content": text, "add_special": True})["tokens"] == tokenizer.encode(text).ids for text in texts)
print(f"tokens: {same} of {len(texts)} texts the same")

with tempfile.TemporaryDirectory() as scratch:
    inputs, answers = pathlib.Path(scratch, "texts.txt"), pathlib.Path(scratch, "answers.safetensors")
    inputs.write_text("\n".join(texts) + "\n")
    subprocess.run([program, "logits", folder, "--input", inputs, "--out", answers, "--device", "cpu", "--quiet"], check=True)
    ours = next(iter(load_file(answers).values()))
theirs = numpy.array([ask("/v1/embeddings", {"input": text})["data"][0]["embedding"] for text in texts])
norms = numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1)
cosines = (ours * theirs).sum(1) / norms
print(f"vectors: least cosine {cosines.min():.6f}, mean {cosines.mean():.6f}")
if same < len(texts) or cosines.min() < 0.9999:
    sys.exit("llama.cpp makes something else of them")
