#!/usr/bin/env python3
"""Time one knowledge-distillation step of PyTorch, as a peer to compare with.

The recipe is Hinton's on MNIST: teacher 784-1200-1200-10 (forward only), student 784-800-800-10,
T = 20, alpha = 0.9, SGD with momentum 0.9, batch 128, f32. `benches/step.rs` times the same here.
"""

import torch
import torch.nn.functional as F

import timing

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
    parser = timing.parser(__doc__, warmup=20, runs=200)
    parser.add_argument("--fused", action="store_true", help="use PyTorch's fused SGD")
    args = parser.parse_args()
    timing.begin(args)
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

    timing.report("step", step, args, fused=args.fused)


if __name__ == "__main__":
    main()
