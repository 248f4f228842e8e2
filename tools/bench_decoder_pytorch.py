#!/usr/bin/env python3
"""What transformers takes of the work of recipes/smollm2-encyclopaedia.toml on the processor: a forward pass and a
distillation step of batch 8 x 128, and greedy generation with a cache.

    distil-gpu convert data/cache/smollm2/model.gguf /tmp/smollm2
    tools/bench_decoder_pytorch.py /tmp/smollm2 [--threads 2] [--seconds 20]

Needs torch and transformers. The models are in f32, attention is PyTorch's own (sdpa).
"""

import argparse
import copy
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

ROWS, LENGTH = 8, 128
DROPPED = {3, 7, 12, 13, 14, 15, 16, 17, 25, 26}


def timed(name: str, seconds: float, work, unit: int, of: str) -> None:
    work()
    times = []
    while sum(times) < seconds or len(times) < 3:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    median = sorted(times)[len(times) // 2]
    print(f"{name:12} {median * 1e3:9.1f} ms  {unit / median:9.1f} {of}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    student = copy.deepcopy(teacher).train()
    kept = [layer for number, layer in enumerate(student.model.layers) if number not in DROPPED]
    student.model.layers = torch.nn.ModuleList(kept)
    for number, layer in enumerate(kept):
        layer.self_attn.layer_idx = number
    student.config.num_hidden_layers = len(kept)
    tokens = torch.randint(0, teacher.config.vocab_size, (ROWS, LENGTH))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)

    def forward() -> None:
        with torch.no_grad():
            logits = teacher(input_ids=tokens, use_cache=False).logits
            F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1))

    def step() -> None:
        with torch.no_grad():
            theirs = teacher(input_ids=tokens, use_cache=False).logits[:, :-1]
        ours = student(input_ids=tokens, use_cache=False).logits[:, :-1]
        loss = F.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="sum") / (ROWS * (LENGTH - 1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def generate() -> None:
        prompt = tokens[:1, :16]
        teacher.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, min_new_tokens=40, do_sample=False)

    timed("forward", args.seconds, forward, ROWS * LENGTH, "tokens")
    timed("step", args.seconds, step, ROWS * LENGTH, "tokens")
    timed("generation", args.seconds, generate, 40, "tokens")


if __name__ == "__main__":
    main()
