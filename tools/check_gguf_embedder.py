"""Holds models of vectors that distil-gpu wrote as GGUF to llama.cpp (by xllamacpp).

    python tools/check_gguf_embedder.py target/debug/distil-gpu data/cache/movie-sentiment/unlabelled.txt
    python tools/check_gguf_embedder.py target/debug/distil-gpu data/cache/movie-sentiment/unlabelled.txt data/cache/minilm

200 texts of the file, and some of many scripts: llama.cpp's tokens are those of tokenizers, and its vectors have a cosine of
at least 0.9999 to this program's. Without a model, of tiny random ones of every family, with tokenizers learnt from the file,
and every way of making one vector of many. Needs xllamacpp, tokenizers, sentencepiece, protobuf, numpy and safetensors.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import tokenizers
import xllamacpp
from safetensors.numpy import load_file, save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from llama_cpp import Llama, quiet

program, file, *rest = sys.argv[1:]
SCRIPTS = ["Naïve CAFÉ, façade!", "don't-stop; (now)", "你好，世界 and films", "Привет, мир", "x = y**2", "😀 emoji", "$5 + 3% ~ @home",
           "two  spaces,  and\tone tab", " a space at either end ", "ﬁne ﬂowers, ①②③ and ½"]
lines = [line.strip() for line in open(file, encoding="utf-8") if line.strip()]
texts = lines[:200] + SCRIPTS
HIDDEN, HEADS, INNER, LAYERS, POSITIONS = 64, 4, 96, 2, 300
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


class Embedder(Llama):
    def __init__(self, path):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.warmup, parameters.cpuparams.n_threads = 512, False, 2
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.embedding = True
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(parameters)

    def vector(self, text):
        return self.ask("/v1/embeddings", {"input": text})["data"][0]["embedding"]


def held(folder, name):
    """Whether llama.cpp makes of a folder's model.gguf what the program makes of the folder."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with quiet():
        llama = Embedder(folder / "model.gguf")
        ids = [llama.ids(text, add=True) for text in texts]
        theirs = numpy.array([llama.vector(text) for text in texts])
    odd = [text for text, own in zip(texts, ids) if own != tokenizer.encode(text).ids]
    with tempfile.TemporaryDirectory() as scratch:
        inputs, answers = pathlib.Path(scratch, "texts.jsonl"), pathlib.Path(scratch, "answers.safetensors")
        inputs.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        subprocess.run([program, "logits", folder, "--input", inputs, "--out", answers, "--device", "cpu", "--quiet"], check=True)
        ours = next(iter(load_file(answers).values()))
    norms = numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(1) / norms
    good = not odd and cosines.min() >= 0.9999
    print("ok    " if good else "WRONG ", f"{name}: {len(texts) - len(odd)} of {len(texts)} texts have the same tokens;",
          f"least cosine {cosines.min():.6f}", *odd[:3], flush=True)
    return good


def word_piece():
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False))
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


def with_mask(made):
    """RoBERTa's mask takes the space before it."""
    made.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    return made


def byte_pairs():
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL[:4], initial_alphabet=letters, show_progress=False)
    made.train_from_iterator(lines, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return with_mask(made)


def pieces():
    """SentencePiece's own, as XLM-RoBERTa's files have it."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    with tempfile.TemporaryDirectory() as scratch:
        stem = f"{scratch}/pieces"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_prefix=stem, vocab_size=900, model_type="unigram", minloglevel=2)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(pathlib.Path(f"{stem}.model").read_bytes())
    # Theirs begin with <unk>, <s>, </s>.
    scored = [(name, 0.0) for name in SPECIAL[:4]] + [(piece.piece, piece.score) for piece in proto.pieces[3:]]
    made = tokenizers.Tokenizer(models.Unigram(scored, unk_id=3))
    made.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    made.add_special_tokens(SPECIAL[:4])
    return with_mask(made)


def berts(vocab, kind, types):
    config = {
        "model_type": kind, "vocab_size": vocab, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": INNER, "max_position_embeddings": POSITIONS, "type_vocab_size": types, "hidden_act": "gelu",
        "layer_norm_eps": 1e-5, "pad_token_id": 0 if kind == "bert" else 1,
    }
    shapes = {"embeddings.word_embeddings": vocab, "embeddings.position_embeddings": POSITIONS,
              "embeddings.token_type_embeddings": types}
    layers = {}
    for layer in range(LAYERS):
        stem = f"encoder.layer.{layer}"
        for part in "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense":
            layers[f"{stem}.{part}"] = (HIDDEN, HIDDEN)
        layers |= {f"{stem}.intermediate.dense": (INNER, HIDDEN), f"{stem}.output.dense": (HIDDEN, INNER)}
        layers |= {f"{stem}.{part}.LayerNorm": None for part in ("attention.output", "output")}
    return config, shapes, layers


def distilbert(vocab):
    config = {
        "model_type": "distilbert", "vocab_size": vocab, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER,
        "max_position_embeddings": POSITIONS, "activation": "gelu", "pad_token_id": 0,
    }
    shapes = {"embeddings.word_embeddings": vocab, "embeddings.position_embeddings": POSITIONS}
    layers = {}
    for layer in range(LAYERS):
        stem = f"transformer.layer.{layer}"
        layers |= {f"{stem}.attention.{part}_lin": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "out")}
        layers |= {f"{stem}.ffn.lin1": (INNER, HIDDEN), f"{stem}.ffn.lin2": (HIDDEN, INNER)}
        layers |= {f"{stem}.{part}_layer_norm": None for part in ("sa", "output")}
    return config, shapes, layers


def tiny(folder, tokenizer, made, name, pooling):
    """A random model of vectors, as transformers and sentence-transformers save one."""
    (config, tables, layers), chance = made, numpy.random.default_rng(0)
    drawn = lambda *shape: chance.normal(0, 0.2, shape).astype(numpy.float32)
    tensors = {f"{stem}.weight": drawn(rows, HIDDEN) for stem, rows in tables.items()}
    for stem, shape in {"embeddings.LayerNorm": None, **layers}.items():
        tensors |= {f"{stem}.weight": drawn(*shape) if shape else 1 + drawn(HIDDEN),
                    f"{stem}.bias": drawn(shape[0] if shape else HIDDEN)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": [f"{name}Model"], **config}))
    tokenizer.save(str(folder / "tokenizer.json"))
    parts = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
             {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "1_Pooling").mkdir()
    modes = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken"}
    said = {f"pooling_mode_{mode}": way == pooling for way, mode in modes.items()}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN, **said}))


def exported(folder, scratch):
    subprocess.run([program, "export", folder, "--to", scratch / "out", "--only", "gguf", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return scratch / "out"


good = True
if rest:
    with tempfile.TemporaryDirectory() as scratch:
        good = held(exported(rest[0], pathlib.Path(scratch)), rest[0])
else:
    words, bytes_, unigram = word_piece(), byte_pairs(), pieces()
    size = lambda tokenizer: tokenizer.get_vocab_size() + 3
    for name, tokenizer, made in [
        ("Bert", words, berts(size(words), "bert", 2)),
        ("DistilBert", words, distilbert(size(words))),
        ("Roberta", bytes_, berts(size(bytes_), "roberta", 1)),
        ("XLMRoberta", unigram, berts(size(unigram), "xlm-roberta", 1)),
        ("Camembert", unigram, berts(size(unigram), "camembert", 1)),
        ("Bert", unigram, berts(size(unigram), "bert", 2)),
    ]:
        for pooling in "mean", "first", "last":
            with tempfile.TemporaryDirectory() as scratch:
                folder = pathlib.Path(scratch, "model")
                folder.mkdir()
                tiny(folder, tokenizer, made, name, pooling)
                kind = tokenizer.model.__class__.__name__
                good &= held(exported(folder, pathlib.Path(scratch)), f"{made[0]['model_type']}, {kind}, {pooling}")
if not good:
    sys.exit("llama.cpp makes something else of them")
