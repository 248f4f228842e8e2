#!/usr/bin/env python3
"""Make tests/fixtures/features.safetensors: the losses of features as PyTorch computes them, in f64.

For `hidden`: `student` and `teacher` [examples, positions, columns] and `lengths`; `cosine` is PyTorch's
CosineEmbeddingLoss of target 1 and `square` its MSELoss over the positions that are no padding, and `<loss>.grad` the
gradient by the student's. For `relations`: `queries`, `keys` and `values` of student and teacher, with heads of
different sizes; `attention` and `value_relations` are MiniLM's two losses, with their gradients. Needs torch.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FIXTURE = Path(__file__).resolve().parent.parent / "tests/fixtures/features.safetensors"
LENGTHS = [7, 3, 1]
HEADS = 3


def relation(a: torch.Tensor, b: torch.Tensor, length: int) -> torch.Tensor:
    """Logarithms [heads, length, length] of softmax(a · bᵀ / √head_dim) of one example, padding cut off."""
    a, b = (x[:length].reshape(length, HEADS, -1).transpose(0, 1) for x in (a, b))
    return F.log_softmax(a @ b.transpose(1, 2) / a.shape[-1] ** 0.5, dim=-1)


def relation_loss(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """KL(teacher ‖ student), summed over keys, the mean over heads and queries of the whole batch."""
    total = torch.zeros((), dtype=torch.float64)
    for example, length in enumerate(LENGTHS):
        s = relation(*(x[example] for x in student), length)
        t = relation(*(x[example] for x in teacher), length)
        total = total + F.kl_div(s, t, reduction="sum", log_target=True)
    return total / (HEADS * sum(LENGTHS))


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, length = len(LENGTHS), max(LENGTHS)

    def numbers(columns: int) -> torch.Tensor:
        # Exact in f32, so that every device starts from the same numbers.
        return torch.randn(rows, length, columns, generator=generator).double()

    mask = torch.arange(length)[None] < torch.tensor(LENGTHS)[:, None]
    made = {"lengths": torch.tensor(LENGTHS).int()}

    student, teacher = numbers(20).requires_grad_(), numbers(20)
    made |= {"hidden.student": student.detach(), "hidden.teacher": teacher}
    ones = torch.ones(sum(LENGTHS), dtype=torch.float64)
    for name, loss in {
        "cosine": F.cosine_embedding_loss(student[mask], teacher[mask], ones),
        "square": F.mse_loss(student[mask], teacher[mask]),
    }.items():
        (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
        made |= {name: loss.detach(), f"{name}.grad": gradient}

    own = [numbers(HEADS * 4).requires_grad_() for _ in range(3)]
    theirs = [numbers(HEADS * 6) for _ in range(3)]
    for part, s, t in zip(["queries", "keys", "values"], own, theirs):
        made |= {f"relations.student.{part}": s.detach(), f"relations.teacher.{part}": t}
    queries, keys, values = own
    attention = relation_loss([queries, keys], theirs[:2])
    gradients = torch.autograd.grad(attention, [queries, keys])
    made |= {"attention": attention.detach()}
    made |= dict(zip(["attention.grad.queries", "attention.grad.keys"], gradients))
    values_loss = relation_loss([values, values], [theirs[2], theirs[2]])
    (gradient,) = torch.autograd.grad(values_loss, values)
    made |= {"value_relations": values_loss.detach(), "value_relations.grad": gradient}

    save_file({name: tensor.contiguous() for name, tensor in made.items()}, FIXTURE)


if __name__ == "__main__":
    main()
