#!/usr/bin/env python3
"""Time the distillation loss and its gradient in PyTorch on the CPU, as a peer to compare with.

Loss as in the README: KL at temperature T and cross-entropy, over given teacher and student logits, and the
gradient of the student's, in f32. `benches/distill_loss.rs` times the same here.
"""

import torch
import torch.nn.functional as F

import timing

TEMPERATURE, ALPHA = 2.0, 0.9


def main() -> None:
    parser = timing.parser(__doc__, warmup=2, runs=10)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32768)
    args = parser.parse_args()
    timing.begin(args)
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

    what = f"loss of {args.rows} x {args.classes}"
    timing.report(what, run, args, rows=args.rows, classes=args.classes)


if __name__ == "__main__":
    main()
