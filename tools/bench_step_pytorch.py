#!/usr/bin/env python3
"""Time one knowledge-distillation step of PyTorch on the CPU, as a peer to compare with.

The recipe is Hinton's on MNIST: teacher 784-1200-1200-10 (forward only), student 784-800-800-10,
T = 20, alpha = 0.9, SGD with momentum 0.9, batch 128, f32.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

BATCH, PIXELS, CLASSES = 128, 784, 10
TEMPERATURE, ALPHA = 20.0, 0.9


def mlp(hidden: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(PIXELS, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, hidden),
        torch.nn.ReLU(),
        torch.nn.Linear(hidden, CLASSES),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--fused", action="store_true", help="use PyTorch's fused SGD")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    teacher, student = mlp(1200), mlp(800)
    optimizer = torch.optim.SGD(
        student.parameters(), lr=0.01, momentum=0.9, fused=args.fused or None
    )
    inputs = torch.rand(BATCH, PIXELS)
    labels = torch.randint(CLASSES, (BATCH,))

    def step() -> None:
        with torch.no_grad():
            soft_targets = F.log_softmax(teacher(inputs) / TEMPERATURE, dim=1)
        logits = student(inputs)
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=1),
            soft_targets,
            reduction="batchmean",
            log_target=True,
        )
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    times = []
    for _ in range(args.warmup + args.steps):
        start = time.perf_counter()
        step()
        times.append((time.perf_counter() - start) * 1e3)
    times = times[args.warmup :]

    result = {
        "torch": torch.__version__,
        "threads": args.threads,
        "fused": args.fused,
        "steps": args.steps,
        "median_ms": round(statistics.median(times), 3),
        "mean_ms": round(statistics.fmean(times), 3),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"median {result['median_ms']} ms, mean {result['mean_ms']} ms a step ({args.threads} threads)"
        )


if __name__ == "__main__":
    main()
