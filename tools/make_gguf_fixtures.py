"""Makes tests/fixtures/gguf: blocks with the numbers that PyPI gguf makes of them, tiny GGUFs that it writes, and how many nats
a token llama.cpp finds texts to have by one of them.

Needs gguf, numpy, safetensors and xllamacpp. The GGUFs' tensors are named by gguf's own map of Hugging Face's names. Their values are
a formula of name and place, which crates/gguf/tests/models.rs has too, so that no second file holds them.
"""
import json
import math
import pathlib
import tempfile
import warnings

import gguf
import numpy
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

folder = pathlib.Path(__file__).parent.parent / "tests/fixtures/gguf"
folder.mkdir(parents=True, exist_ok=True)
chance = numpy.random.default_rng(0)
Type = gguf.GGMLQuantizationType


def blocks():
    tensors = {}
    source = chance.standard_normal(512).astype(numpy.float32)
    # What rounding stumbles over: zeros, ties, the largest at either end, small and large scales.
    source[:32] = 0
    source[32:64] = numpy.arange(32) * 0.5
    source[63] = 127
    source[64:96] *= 1e-6
    source[96:128] *= 1e4
    source[128:132] = [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8]
    tensors["source"] = source
    for kind in Type.F16, Type.BF16, Type.Q8_0:
        tensors[f"{kind.name}.written"] = numpy.frombuffer(quantize(source, kind).tobytes(), numpy.uint8)
    for kind in (Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q4_K, Type.Q5_K, Type.Q6_K):
        length, size = gguf.GGML_QUANT_SIZES[kind]
        raw = chance.integers(0, 256, (1024 // length, size), dtype=numpy.uint8)
        # Scales are numbers: neither infinite nor none.
        scales = {Type.Q6_K: [208], Type.Q4_1: [0, 2], Type.Q5_1: [0, 2], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.BF16: []}
        for at in scales.get(kind, [0]):
            raw[:, at : at + 2] = chance.standard_normal((len(raw), 1)).astype(numpy.float16).view(numpy.uint8)
        if kind == Type.BF16:
            raw = quantize(chance.standard_normal(1024).astype(numpy.float32), kind).view(numpy.uint8).reshape(1024, 2)
        tensors[f"{kind.name}.blocks"] = raw.reshape(-1)
        tensors[f"{kind.name}.values"] = dequantize(raw, kind).astype(numpy.float32).reshape(-1)
    save_file(tensors, folder / "blocks.safetensors")


def values(name, shape):
    """Exact in F16."""
    count = math.prod(shape)
    return ((numpy.arange(count) * 31 + sum(name.encode()) * 17) % 509 - 254).astype(numpy.float32).reshape(shape) / 128


HIDDEN, HEADS, KV, WIDTH, INNER, LAYERS, VOCAB = 16, 2, 1, 8, 24, 2, 268


def linear(stem, rows, columns, bias=False):
    return {f"{stem}.weight": (rows, columns), **({f"{stem}.bias": (rows,)} if bias else {})}


def decoder(bias=False, norms=(), gemma=False, tied=True, width=WIDTH):
    shapes = linear("model.embed_tokens", VOCAB, HIDDEN)
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        for name, rows in ("q", HEADS * width), ("k", KV * width), ("v", KV * width):
            shapes |= linear(f"{stem}.self_attn.{name}_proj", rows, HIDDEN, bias)
        shapes |= linear(f"{stem}.self_attn.o_proj", HIDDEN, HEADS * width)
        for name in norms:
            shapes[f"{stem}.self_attn.{name}.weight"] = (width,)
        more = ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if gemma else []
        for name in ["input_layernorm", "post_attention_layernorm", *more]:
            shapes[f"{stem}.{name}.weight"] = (HIDDEN,)
        shapes |= linear(f"{stem}.mlp.gate_proj", INNER, HIDDEN) | linear(f"{stem}.mlp.up_proj", INNER, HIDDEN)
        shapes |= linear(f"{stem}.mlp.down_proj", HIDDEN, INNER)
    shapes["model.norm.weight"] = (HIDDEN,)
    return shapes | ({} if tied else linear("lm_head", VOCAB, HIDDEN))


def gpt2():
    shapes = {"transformer.wte.weight": (VOCAB, HIDDEN), "transformer.wpe.weight": (32, HIDDEN)}
    for layer in range(LAYERS):
        stem = f"transformer.h.{layer}"
        for name, rows, columns in (
            ("attn.c_attn", HIDDEN, 3 * HIDDEN), ("attn.c_proj", HIDDEN, HIDDEN), ("mlp.c_fc", HIDDEN, INNER), ("mlp.c_proj", INNER, HIDDEN),
        ):
            shapes |= {f"{stem}.{name}.weight": (rows, columns), f"{stem}.{name}.bias": (columns,)}
        for name in "ln_1", "ln_2":
            shapes |= {f"{stem}.{name}.weight": (HIDDEN,), f"{stem}.{name}.bias": (HIDDEN,)}
    return shapes | {"transformer.ln_f.weight": (HIDDEN,), "transformer.ln_f.bias": (HIDDEN,)}


def letters():
    """The letters that stand for bytes, in the bytes' order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte if byte in shown else next(rest)) for byte in range(256)]


def changed(arch, name, value):
    if arch == "llama" and ("q_proj" in name or "k_proj" in name):
        # Pairs (i, i + half) of a head's rows become neighbours.
        heads = HEADS if "q_proj" in name else KV
        halves = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
        return numpy.ascontiguousarray(halves.swapaxes(1, 2)).reshape(value.shape)
    if arch == "gpt2" and ".c_" in name and value.ndim == 2:
        return numpy.ascontiguousarray(value.T)
    return value + 1 if arch == "gemma3" and "norm" in name else value


def model(file, arch, shapes, pre, divisors=None, width=WIDTH, base=1e4, folder=folder, matrices=numpy.float16):
    writer = gguf.GGUFWriter(folder / f"{file}.gguf", arch)
    writer.add_context_length(32)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    if arch == "gpt2":
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_head_count_kv(KV)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_key_length(width)
        writer.add_value_length(width)
        writer.add_rope_freq_base(base)
    if arch == "gemma3":
        writer.add_sliding_window(16)
    end = ["<|im_start|>", "<|im_end|>", "<tool>"]
    if pre == "pieces":
        tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "a", "b", "▁a", "ab", "▁ab"]
        tokens += [f"[PAD{at}]" for at in range(len(tokens), VOCAB)]
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * 262 + [-1.0, -2.0, -3.0] + [-1e4] * 3)
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 6 + [5] * 3)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
    else:
        space = letters()[32]
        tokens = letters() + ["th", "the", space + "the", *end, "in", "ing"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens + [f"[PAD{at}]" for at in range(len(tokens), VOCAB)])
        writer.add_token_types([1] * 259 + [3, 3, 4] + [1, 1] + [5] * (VOCAB - len(tokens)))
        writer.add_token_merges(["t h", "th e", f"{space} the", "i n", "in g"])
        writer.add_bos_token_id(259)
        writer.add_eos_token_id(260)
        writer.add_add_bos_token(pre == "llama-bpe")
        writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, arch.upper()), LAYERS)
    for name, shape in shapes.items():
        value = changed(arch, name, values(name, shape))
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), value.astype(matrices if value.ndim == 2 else numpy.float32))
    if divisors:
        writer.add_tensor("rope_freqs.weight", numpy.array(divisors, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3(width):
    """The divisors of Llama 3.2: factor 32, wavelengths between 2048 and 8192 blended."""
    found = []
    for at in range(width // 2):
        wave = 2 * math.pi * 5e5 ** (2 * at / width)
        smooth = (8192 / wave - 1) / 3
        found.append(1.0 if wave < 2048 else 32.0 if wave > 8192 else 1 / ((1 - smooth) / 32 + smooth))
    return found


PIECES = ("pieces", "llama", decoder(), "pieces")


def nats():
    """Of the Llama of pieces, its matrices in F32, which hold the same numbers and make llama.cpp round nothing."""
    from llama_cpp import Llama, quiet

    texts = ["ab ba a", "abba", "a", "ab ab ab b", "a thing", "b \u00e9 12"]
    with tempfile.TemporaryDirectory() as at:
        model(*PIECES, folder=pathlib.Path(at), matrices=numpy.float32)
        with quiet():
            llama = Llama(pathlib.Path(at) / "pieces.gguf", 1)
        documents = [llama.ids(text, True) + [2] for text in texts]
        found = [-one for ids in documents for one in llama.of_each(ids)]
        del llama
    told = {"texts": texts, "tokens": len(found), "nats": sum(found) / len(found)}
    (folder / "nats.json").write_text(json.dumps(told, indent=1) + "\n")


warnings.simplefilter("error")
blocks()
model("llama", "llama", decoder(bias=True, tied=False), "llama-bpe", llama3(WIDTH), base=5e5)
model(*PIECES)
model("qwen2", "qwen2", decoder(bias=True), "qwen2")
model("qwen3", "qwen3", decoder(norms=("q_norm", "k_norm"), width=12), "qwen2", width=12)
model("gpt2", "gpt2", gpt2(), "gpt-2")
model("gemma3", "gemma3", decoder(norms=("q_norm", "k_norm"), gemma=True), "smollm")
nats()
