"""Holds crates/gguf to llama.cpp (by xllamacpp), transformers and tokenizers.

    cargo build --release -p distil-gpu-gguf --example convert
    data/fetch-text.sh smollm2
    python tools/check_gguf.py target/release/examples/convert data/cache/smollm2/model.gguf

SmolLM2: its tokenizer's ids and its greedy continuations are those of llama.cpp; written again as GGUF, in F16 and Q8_0,
llama.cpp's log-probabilities are those of transformers. Then, for every way of cutting texts and every architecture, a
tiny random model with a tokenizer learnt here is written as GGUF and held to the same, and read back.
"""
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import gguf
import numpy
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from llama_cpp import Llama, quiet

convert, smollm2 = sys.argv[1:]
failures = []


def run(*arguments):
    subprocess.run([convert, *map(str, arguments)], check=True)


def told(what, good, shown):
    print(("ok    " if good else "WRONG "), what, shown, flush=True)
    if not good:
        failures.append(what)


def texts():
    """200 texts: kinds of letters, numbers, code, spaces, special tokens, and what chance mixes of them."""
    pieces = [
        "Hello world", "The quick brown fox's tail", "I've, you'll, WE'RE, he'D", "naïve café, Ångström, façade",
        "Straße über Öl", "Привет, мир", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก",
        "你好，世界。", "日本語のテキストです", "안녕하세요 세계", "😀😃 emoji 🏳️‍🌈 👩‍👩‍👧", "e\u0301 decomposed o\u0308", "1234567890", "3.14159",
        "1,000,000", "²³½ ⅷ ٣٤", "x = y**2 + 3*z", "def f(a, b=1):\n    return a[b]", "#include <stdio.h>\n\tint main(){}\n",
        "{\"key\": [1, 2, null]}", "<html><body>&amp;</body></html>", "\n", "\n\n\n", " \n \n", "\t\t tab", "  leading",
        "trailing   ", "a  b   c    d", "\r\nwindows\r\n", "...!?;:--", "``quoted'' \u201ccurly\u201d", "https://example.org/a?b=c#d",
        "UPPER lower MiXeD", "under_score-dash", "$5 + €3 = £?", "~`@^|\\", "\u00a0nbsp\u2003em", "\u200bzero", "a\u0300\u0301\u0302",
        "supercalifragilisticexpialidocious", "AAAAAAAAAAAAAAAA", "0x1F 0b01 1e-5", "[PAD1]", "'s 't 'll", "ﬁ ligature", "𝔘𝔫𝔦",
    ]
    chance = random.Random(0)
    special = ["<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "x<|im_end|>y", " <|im_start|> "]
    mixed = ["".join(chance.choice(pieces + special) + chance.choice(["", " ", "\n"]) for _ in range(5)) for _ in range(200)]
    return (pieces + special + mixed)[:200]


TEXTS = texts()
PROMPTS = ["The capital of France is", "Once upon a time, there was", "def add(a, b):\n", "Water boils at", "1, 2, 3, 4,"]


def same_ids(what, llama, tokenizer, add=False, texts=TEXTS):
    wrong = []
    for text in texts:
        theirs, ours = llama.ids(text, add), tokenizer.encode(text, add_special_tokens=add).ids
        if theirs != ours:
            wrong.append((text, theirs, ours))
    told(f"{what}: ids of {len(texts)} texts", not wrong, f"{len(wrong)} differ {wrong[:1] or ''}")


def farthest(llama, model, prompts, count):
    """Differences of log-probabilities of the `count` likeliest tokens after each prompt: the largest, and the mean."""
    found = []
    for ids in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        ours = torch.log_softmax(logits, -1)
        found += [abs(ours[id].item() - value) for id, value in llama.next(ids, count).items()]
    return max(found), sum(found) / len(found)


def check_smollm2(work):
    run("folder", smollm2, work / "smollm2")
    tokenizer = tokenizers.Tokenizer.from_file(str(work / "smollm2/tokenizer.json"))
    model = transformers.LlamaForCausalLM.from_pretrained(work / "smollm2", dtype=torch.float32).eval()
    with quiet():
        llama = Llama(smollm2)
    same_ids("SmolLM2, read", llama, tokenizer)
    alike, count = 0, 20
    for text in PROMPTS:
        ids = tokenizer.encode(text).ids
        made = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=[], pad_token_id=0)
        theirs, ours = llama.greedy(ids, count), made[0, len(ids) :].tolist()
        alike += next((at for at, pair in enumerate(zip(theirs, ours)) if pair[0] != pair[1]), min(len(theirs), count))
    told("SmolLM2, read: greedy tokens before the first that differs", alike >= 60, f"{alike} of {count * len(PROMPTS)}")
    own = transformers.AutoTokenizer.from_pretrained(work / "smollm2")
    chat = own.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    told("SmolLM2, read: chat template", chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "")
    prompts = [tokenizer.encode(text).ids for text in PROMPTS]
    del llama
    # In F16 and Q8_0 llama.cpp rounds what it multiplies with weights too. Of Q8_0 the weights alone, computed by
    # transformers, are 0.2 at most and 0.06 in the mean off.
    for precision, most, middle in ("f32", 1e-3, 1e-3), ("f16", 2e-2, 1e-2), ("q8_0", 0.6, 0.2):
        path = work / f"smollm2-{precision}.gguf"
        run("gguf", work / "smollm2", path, precision)
        with quiet():
            llama = Llama(path)
        same_ids(f"SmolLM2, written as {precision}", llama, tokenizer)
        far, mean = farthest(llama, model, prompts, 20)
        good = far < most and mean < middle
        told(f"SmolLM2, written as {precision}: log-probabilities", good, f"at most {far:.1e}, {mean:.1e} in the mean")
        del llama


def split(expression):
    return pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")


def learnt(cut, normalizer=None, ignore=False, bos=False):
    """A small byte-level tokenizer that cuts texts so."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore))
    tokenizer.pre_tokenizer, tokenizer.decoder = cut, decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", pair="<|endoftext|> $A $B", special_tokens=[("<|endoftext|>", 0)])
    return tokenizer


def ways():
    tail = r"\p{N}{%s}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    digit = words + tail.replace("{%s}", "")
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    start = r"[^\r\n\p{L}\p{N}]?"
    tekken = f"{start}{upper}*{lower}+|{start}{upper}+{lower}*|" + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    old = [r"[\p{P}\$\+<=>\^~\|]+", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)", r"\p{N}+",
           "[0-9][0-9][0-9]"]
    sequence = pre_tokenizers.Sequence
    return {
        "gpt-2": learnt(gpt2),
        "smollm": learnt(sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])),
        "llama-bpe": learnt(sequence([split(words + tail % "1,3"), raw]), ignore=True, bos=True),
        "smaug-bpe": learnt(sequence([split(words + tail % "1,3"), raw])),
        "qwen2": learnt(sequence([split(digit), raw]), normalizers.NFC()),
        "deepseek-r1-qwen": learnt(sequence([split(digit), raw])),
        "tekken": learnt(sequence([split(tekken), raw]), ignore=True, bos=True),
        "default": learnt(sequence([*map(split, old), raw])),
    }


def tiny():
    """Tiny random models: architectures with all that they may have."""
    torch.manual_seed(0)
    size = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": 704, "initializer_range": 0.1,
        "bos_token_id": 0, "eos_token_id": 2}
    rope = {"rope_theta": 5e3, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}
    yarn = {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    t = transformers
    return {
        "llama": t.LlamaForCausalLM(t.LlamaConfig(**size, tie_word_embeddings=True)),
        "llama, all biases, untied, scaled as Llama 3": t.LlamaForCausalLM(t.LlamaConfig(
            **size, attention_bias=True, mlp_bias=True, head_dim=32, rope_parameters=rope, tie_word_embeddings=False)),
        "llama, linear": t.LlamaForCausalLM(t.LlamaConfig(
            **size, rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0})),
        "mistral": t.MistralForCausalLM(t.MistralConfig(**size, sliding_window=None)),
        "qwen2": t.Qwen2ForCausalLM(t.Qwen2Config(**size, tie_word_embeddings=True)),
        "qwen2, yarn": t.Qwen2ForCausalLM(t.Qwen2Config(**size, rope_parameters=yarn)),
        "qwen3": t.Qwen3ForCausalLM(t.Qwen3Config(**size, head_dim=32, tie_word_embeddings=True)),
        # The sixth sees everything, and the window is shorter than the longest prompt.
        "gemma3": t.Gemma3ForCausalLM(t.Gemma3TextConfig(**{
            **size, "num_hidden_layers": 7, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64,
            "pad_token_id": 0, "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 5e4},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e2}}})),
        "gpt2": t.GPT2LMHeadModel(t.GPT2Config(
            n_embd=64, n_layer=2, n_head=4, n_positions=256, n_inner=96, vocab_size=704, initializer_range=0.1,
            bos_token_id=0, eos_token_id=2)),
    }


def save(folder, model, tokenizer):
    for name, values in model.named_parameters():
        if name.endswith("bias") or "norm" in name or "ln_" in name:
            # Those that begin as 0 or 1 would hide a mistake.
            with torch.no_grad():
                values += 0.2 * torch.randn_like(values)
    model.eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def check_tiny(work):
    tokenizer = ways()["smollm"]
    for name, model in tiny().items():
        folder, path, back = work / name, work / f"{name}.gguf", work / f"{name}, back"
        save(folder, model, tokenizer)
        prompts = [tokenizer.encode(text).ids[:40] for text in TEXTS[1:22:4]] + [tokenizer.encode("".join(TEXTS)).ids[:150]]
        for precision, most in ("q8_0", 0.2), ("f16", 1e-2), ("f32", 1e-3):
            # llama.cpp looks GELU up in a table of F16, in each of seven layers here.
            most *= 2 if name == "gemma3" else 1
            run("gguf", folder, path, precision)
            with quiet():
                llama = Llama(path)
            far, mean = farthest(llama, model, prompts, 700)
            told(f"{name}, {precision}: log-probabilities", far < most, f"at most {far:.1e}, {mean:.1e} in the mean")
            del llama
        run("folder", path, back)
        again = transformers.AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32).eval()
        ids = torch.tensor([prompts[-1]])
        with torch.no_grad():
            far = (again(ids).logits - model(ids).logits).abs().max().item()
        told(f"{name}, f32: logits of what is read back", far < 1e-4, f"{far:.1e}")


def check_ways(work):
    torch.manual_seed(0)
    model = tiny()["llama"]
    for name, tokenizer in ways().items():
        folder, path, back = work / f"way {name}", work / f"way {name}.gguf", work / f"way {name}, back"
        save(folder, model, tokenizer)
        run("gguf", folder, path, "f16")
        pre = gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents()
        told(f"cut as {name}: the name that is found", pre == name, pre)
        with quiet():
            llama = Llama(path)
        # llama.cpp composes no letters.
        shown = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        if name == "qwen2":
            shown.normalizer = normalizers.Sequence([])
        # llama.cpp's expression of Tekken leaves marks (as of Devanagari and Thai) out.
        marked = lambda text: any(unicodedata.category(letter)[0] == "M" for letter in text)
        texts = [text for text in TEXTS if name != "tekken" or not marked(text)]
        same_ids(f"cut as {name}, written", llama, shown, add=True, texts=texts)
        run("folder", path, back)
        again = tokenizers.Tokenizer.from_file(str(back / "tokenizer.json"))
        differ = [text for text in TEXTS if again.encode(text).ids != tokenizer.encode(text).ids]
        told(f"cut as {name}, read back: ids", not differ, f"{len(differ)} differ")
        broken = [text for text in TEXTS if again.decode(again.encode(text).ids, False) != tokenizer.decode(tokenizer.encode(text).ids, False)]
        told(f"cut as {name}, read back: texts of ids", not broken, f"{len(broken)} differ")
        del llama


def check_pieces(work):
    """A SentencePiece model's way: a GGUF with scores, made by PyPI gguf, is read, and written again."""
    learner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Only letters that are seen often are tokens, so that others become bytes.
    seen = [text for text in TEXTS if text.isascii() and "<|" not in text]
    learner.train_from_iterator(seen * 2, trainers.BpeTrainer(vocab_size=340, show_progress=False))
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["<|im_start|>", "<|im_end|>", "<tool>"]
    kinds = [2, 3, 3] + [6] * 256 + [3, 3, 4]
    vocabulary = sorted(learner.get_vocab(), key=learner.get_vocab().get)
    tokens = first + [token for token in vocabulary if token not in first]
    scores = [0.0] * len(first) + [-float(at) for at in range(len(tokens) - len(first))]
    kinds += [1] * (len(tokens) - len(kinds))
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4, vocab_size=len(tokens) + 5)
    model = transformers.LlamaForCausalLM(config)
    for prefix in True, False:
        # A model with any tokenizer, whose keys of the tokenizer are then exchanged.
        folder, path, own = work / f"pieces {prefix}", work / "some.gguf", work / f"pieces {prefix}.gguf"
        save(folder, model, ways()["gpt-2"] if len(tokens) >= 700 else small())
        run("gguf", folder, path, "f32")
        reader, writer = gguf.GGUFReader(path), gguf.GGUFWriter(own, "llama")
        for key, field in reader.fields.items():
            if not key.startswith(("GGUF", "tokenizer", "general")):
                value = field.contents()
                (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
        writer.add_tokenizer_model("llama")
        padded = 5
        writer.add_token_list(tokens + [f"[PAD{len(tokens) + at}]" for at in range(padded)])
        writer.add_token_scores(scores + [-10000.0] * padded)
        writer.add_token_types(kinds + [5] * padded)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(prefix)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, numpy.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        back, again = work / f"pieces {prefix}, back", work / f"pieces {prefix}, again.gguf"
        run("folder", own, back)
        tokenizer = tokenizers.Tokenizer.from_file(str(back / "tokenizer.json"))
        with quiet():
            llama = Llama(own)
        same_ids(f"pieces, prefix {prefix}, read", llama, tokenizer, add=True)
        del llama
        run("gguf", back, again, "f16")
        with quiet():
            llama = Llama(again)
        same_ids(f"pieces, prefix {prefix}, written", llama, tokenizer, add=True)
        del llama


def small():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


transformers.utils.logging.disable_progress_bar()
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    check_tiny(work)
    check_ways(work)
    check_pieces(work)
    check_smollm2(work)
print("failed:" if failures else "all as it should be", *failures, sep="\n  ")
sys.exit(bool(failures))
