"""Holds what distil-gpu makes of a GGUF file to llama.cpp (by xllamacpp): nats per token of documents, and greedy texts.

    tools/check_gguf_nats.py target/release/distil-gpu data/cache/smollm2/model.gguf data/cache/encyclopaedia/test.jsonl

Documents are their tokens and the one that ends a text, all but the first being guessed; tokens are llama.cpp's own. llama.cpp
rounds what it multiplies with quantised weights, so the file is also written in F32, of which nothing is rounded: there the
nats are within 1e-3 and the greedy texts the same but where two tokens are as likely. Needs xllamacpp and gguf.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import gguf

from llama_cpp import Llama, quiet

# Nats between two tokens that count as equally likely: sums of f32 in another order.
TIE = 1e-3


def told(program: str, *arguments: object) -> dict:
    command = [program, *map(str, arguments), "--device", "cpu", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def nats(llama: Llama, documents: list[list[int]]) -> tuple[float, int]:
    total = sum(-sum(llama.of_each(ids)) for ids in documents)
    count = sum(len(ids) - 1 for ids in documents)
    return total / count, count


def same_texts(llama: Llama, prompts: list[str], ours: list[list[int]], length: int) -> list[str]:
    """Where greedy texts part, in words: the tokens, and by how much llama.cpp prefers its own."""
    parted = []
    for prompt, made in zip(prompts, ours):
        ids = llama.ids(prompt)
        theirs = llama.greedy(ids, length)
        at = next((at for at, pair in enumerate(zip(theirs, made)) if pair[0] != pair[1]), None)
        if at is None:
            # Only one of them tells the token that ends a text.
            assert abs(len(theirs) - len(made)) <= 1, (prompt, theirs, made)
            continue
        likely = llama.next(ids + theirs[:at], 20)
        parted.append((prompt, at, likely[theirs[at]] - likely.get(made[at], float("-inf"))))
    return parted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model", type=Path)
    parser.add_argument("documents", type=Path)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2, help="llama.cpp's, which wait for each other; 1 on a busy machine")
    args = parser.parse_args()
    texts = [json.loads(line)["text"] for line in args.documents.read_text(encoding="utf-8").splitlines()[: args.limit]]
    prompts = [" ".join(text.split()[:6]) for text in texts[: args.prompts]]
    end = gguf.GGUFReader(args.model).fields["tokenizer.ggml.eos_token_id"].contents()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        whole, documents, begun = (Path(folder) / name for name in ("f32.gguf", "documents.jsonl", "prompts.txt"))
        documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        begun.write_text("\n".join(prompts), encoding="utf-8")
        subprocess.run([args.program, "convert", args.model, whole, "--type", "f32", "-q"], check=True)
        measured = told(args.program, "eval", args.model, "--data", documents)
        made = told(args.program, "generate", args.model, "--file", begun, "--max-tokens", args.length)
        made = [one["tokens"] for one in made["continuations"]]
        for name, file in ("F32", whole), ("as it is", args.model):
            with quiet():
                llama = Llama(file, args.threads)
            theirs, count = nats(llama, [llama.ids(text) + [end] for text in texts])
            ours = measured["cross_entropy"]
            assert count == measured["tokens"], (count, measured["tokens"])
            print(f"{name}: llama.cpp {theirs:.6f} nats over {count} tokens, here {ours:.6f}: {abs(theirs - ours):.1e} apart")
            parted = same_texts(llama, prompts, made, args.length)
            print(f"{name}: {len(prompts) - len(parted)} of {len(prompts)} greedy texts of {args.length} tokens are the same")
            for prompt, at, apart in parted:
                print(f"    {prompt!r} parts at token {at}, where llama.cpp's is {apart:.4f} nats likelier")
            if name == "F32":
                failures += [f"{abs(theirs - ours):.1e} nats"] if abs(theirs - ours) >= 1e-3 else []
                failures += [prompt for prompt, _, apart in parted if apart >= TIE]
            del llama
    assert not failures, failures


if __name__ == "__main__":
    main()
