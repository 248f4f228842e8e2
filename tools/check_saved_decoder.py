#!/usr/bin/env python3
"""Compare a saved language model with transformers: nats per token of documents, and logits of greedy continuations.

    tools/check_saved_decoder.py target/release/distil-gpu runs/a/student data/cache/encyclopaedia/test.jsonl [--limit 50]

The folder must load with nothing missing or unexpected. A document is its tokens and the one that ends a text, all but the
first being guessed. With --gguf the model is converted too, and llama.cpp's tokens and log-probabilities are held to
transformers'. Needs torch and transformers, and for that xllamacpp.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("documents", type=Path)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--weights", help="the model in the program's words, where it is another, as a GGUF")
    parser.add_argument("--gguf", choices=["f32", "f16", "q8_0"], help="also as a GGUF of this type")
    parser.add_argument("--threads", type=int, default=2, help="llama.cpp's, which wait for each other; 1 on a busy machine")
    args = parser.parse_args()
    texts = [json.loads(line)["text"] for line in args.documents.read_text(encoding="utf-8").splitlines()[: args.limit]]
    model, told = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not told[key], f"{key}: {told[key]}"
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    # Longer ones are read in rows, of which each knows itself alone.
    fits = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]) < tokenizer.model_max_length
    texts = [text for text in texts if fits(text)]
    total, count, each = 0.0, 0, []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        ids = torch.tensor([ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        each.append(F.cross_entropy(logits, ids[0, 1:], reduction="sum").item())
        total += each[-1]
        count += ids.shape[1] - 1
        each[-1] /= ids.shape[1] - 1
    theirs, ours = total / count, measured(args, texts)
    print(f"transformers {theirs:.6f} nats over {count} tokens, here {ours['cross_entropy']:.6f} over {ours['tokens']}")
    assert count == ours["tokens"] and abs(theirs - ours["cross_entropy"]) < 1e-3
    apart = max(abs(theirs - measured(args, [text])["cross_entropy"]) for text, theirs in zip(texts[:20], each))
    print(f"of each of {len(texts[:20])} texts alone: at most {apart:.1e} nats a token apart")
    assert apart < 1e-4

    prompts = [" ".join(text.split()[:6]) for text in texts[:10]]
    file = tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8")
    file.write("\n".join(prompts))
    file.flush()
    command = [args.program, "generate", args.weights or args.model, "--file", file.name, "--max-tokens", "32", "--device", "cpu", "--json"]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    same = 0
    for prompt, one in zip(prompts, ours["continuations"]):
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False)[0, ids.shape[1] :]
        made = made.tolist()[: len(one["tokens"])]
        same += made == one["tokens"]
        if made != one["tokens"]:
            print("differ:", repr(prompt), repr(tokenizer.decode(made)), repr(one["text"]))
    print(f"{same} of {len(prompts)} greedy continuations of 32 tokens are the same")
    if args.gguf:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            subprocess.run([args.program, "convert", args.model, file, "--type", args.gguf, "-q"], check=True)
            by_llama_cpp(file, model, tokenizer, texts, args.threads)


def measured(args: argparse.Namespace, texts: list[str]) -> dict:
    """What the program finds of these texts."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "documents.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        command = [args.program, "eval", args.weights or args.model, "--data", file, "--device", "cpu", "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def by_llama_cpp(file: Path, model, tokenizer, texts: list[str], threads: int) -> None:
    """Tokens of whole texts, and the 20 likeliest next tokens after the first third of each of 20 texts."""
    from llama_cpp import Llama, quiet

    with quiet():
        llama = Llama(file, threads)
    of = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    alike = sum(llama.ids(text) == of(text) for text in texts)
    print(f"llama.cpp: the same tokens of {alike} of {len(texts)} texts")
    far = []
    for text in texts[:20]:
        ids = of(text)
        ids = ids[: max(1, len(ids) // 3)]
        with torch.no_grad():
            ours = F.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1].double(), -1)
        far += [abs(ours[id].item() - value) for id, value in llama.next(ids, 20).items()]
    print(f"llama.cpp: log-probabilities of {len(far)} tokens at most {max(far):.1e} off, {sum(far) / len(far):.1e} in the mean")
    assert alike == len(texts)


if __name__ == "__main__":
    main()
