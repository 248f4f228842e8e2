#!/usr/bin/env python3
"""Time the distillation loss and its gradient in PyTorch, as a peer to compare with.

Loss as in the README: KL at temperature T and cross-entropy, over given teacher and student logits, and the
gradient of the student's, in f32. `benches/distill_loss.rs` times the same here. With `--liger` the two losses are the
Triton kernels of liger-kernel, as far as it has them: the softmaxes at a temperature are PyTorch's.
"""

import torch
import torch.nn.functional as F
from torch import nn

import timing

TEMPERATURE, ALPHA = 2.0, 0.9


def main() -> None:
    parser = timing.parser(__doc__, warmup=2, runs=10)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--classes", type=int, default=32768)
    parser.add_argument("--liger", action="store_true", help="liger-kernel's losses; needs CUDA")
    args = parser.parse_args()
    timing.begin(args)
    kl_div = nn.KLDivLoss(reduction="batchmean", log_target=True)
    cross_entropy = nn.CrossEntropyLoss()
    if args.liger:
        from liger_kernel.transformers import LigerCrossEntropyLoss, LigerKLDIVLoss

        kl_div = LigerKLDIVLoss(reduction="batchmean", log_target=True)
        # It overwrites the logits by their gradient.
        cross_entropy = LigerCrossEntropyLoss()
    teacher = torch.rand(args.rows, args.classes) * 8 - 4
    student = (torch.rand(args.rows, args.classes) * 8 - 4).requires_grad_()
    labels = torch.randint(args.classes, (args.rows,))

    def run() -> None:
        student.grad = None
        soft = kl_div(
            F.log_softmax(student / TEMPERATURE, dim=1),
            F.log_softmax(teacher / TEMPERATURE, dim=1),
        )
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * cross_entropy(student, labels)
        loss.backward()

    what = f"{'Liger' if args.liger else 'PyTorch'}: loss of {args.rows} x {args.classes}"
    timing.report(what, run, args, rows=args.rows, classes=args.classes)


if __name__ == "__main__":
    main()
