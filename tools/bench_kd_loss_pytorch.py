#!/usr/bin/env python3
"""Time the distillation loss and its gradient in PyTorch on the CPU, as a peer to compare with.

Loss as in the README: KL at temperature T and cross-entropy, over given teacher and student logits, and the
gradient of the student's, in f32. `benches/distill_loss.rs` times the same here.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

TEMPERATURE, ALPHA = 2.0, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    teacher = torch.rand(args.rows, args.classes) * 8 - 4
    student = (torch.rand(args.rows, args.classes) * 8 - 4).requires_grad_()
    labels = torch.randint(args.classes, (args.rows,))

    def run() -> None:
        student.grad = None
        soft = F.kl_div(
            F.log_softmax(student / TEMPERATURE, dim=1),
            F.log_softmax(teacher / TEMPERATURE, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(student, labels)
        loss.backward()

    times = []
    for _ in range(args.warmup + args.runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    times = times[args.warmup :]

    result = {
        "torch": torch.__version__,
        "threads": args.threads,
        "rows": args.rows,
        "classes": args.classes,
        "runs": args.runs,
        "median_ms": round(statistics.median(times), 3),
        "mean_ms": round(statistics.fmean(times), 3),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"median {result['median_ms']} ms, mean {result['mean_ms']} ms for {args.rows} x"
            f" {args.classes} ({args.threads} threads)"
        )


if __name__ == "__main__":
    main()
