#!/usr/bin/env python3
"""Make tests/fixtures/*.safetensors: what PyTorch computes for losses, optimizers, GELU and layer norm.

tests/fixtures/README.md says what each tensor is. The same machine and PyTorch give the same bytes.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
IGNORED = -100


def distillation_loss(
    student: Tensor, teacher: Tensor | None, labels: Tensor, temperature: float, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The soft term, the hard term and their weighted sum; without a teacher, soft is 0."""
    soft, hard = student.new_zeros(()), student.new_zeros(())
    if teacher is not None:
        soft = temperature**2 * F.kl_div(
            F.log_softmax(student / temperature, dim=1),
            F.log_softmax(teacher / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
    if (labels != IGNORED).any():
        hard = F.cross_entropy(student, labels.long(), ignore_index=IGNORED)
    return soft, hard, alpha * soft + (1 - alpha) * hard


def loss_cases() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def logits(rows: int, classes: int, scale: float) -> Tensor:
        return torch.randn(rows, classes, generator=generator) * scale

    # rows, classes, temperature, alpha, scale of the logits, ignored rows, has a teacher
    cases = [
        (4, 10, 1.0, 0.3, 1.0, [], True),
        (8, 10, 4.0, 0.9, 5.0, [], True),
        (5, 2, 2.0, 1.0, 3.0, [1], True),
        (6, 37, 20.0, 0.3, 8.0, [0, 4], True),
        (3, 1000, 4.0, 0.9, 3.0, [2], True),
        (2, 1000, 20.0, 1.0, 10.0, [], True),
        (4, 10, 2.0, 0.3, 2.0, [0, 1, 2, 3], True),  # every label ignored: hard is 0
        (5, 37, 1.0, 0.9, 1e4, [3], True),  # far beyond what exp can hold
        (5, 37, 4.0, 0.3, 1e4, [], True),
        (7, 10, 2.0, 0.0, 2.0, [6], True),  # alpha 0: soft is reported, not counted
        (1, 2, 20.0, 0.9, 1.0, [], True),
        (7, 10, 1.0, 0.0, 3.0, [2, 5], False),
        (2, 1000, 1.0, 0.0, 4.0, [], False),
        (3, 37, 1.0, 0.0, 1.0, [0, 1, 2], False),
    ]
    tensors = {}
    for i, (rows, classes, temperature, alpha, scale, ignored, has_teacher) in enumerate(cases):
        student = logits(rows, classes, scale)
        teacher = logits(rows, classes, scale) if has_teacher else None
        labels = torch.randint(classes, (rows,), generator=generator, dtype=torch.int32)
        labels[ignored] = IGNORED

        z = student.double().requires_grad_()
        soft, hard, loss = distillation_loss(
            z, teacher.double() if has_teacher else None, labels, temperature, alpha
        )
        grad = torch.autograd.grad(loss, z)[0] if loss.requires_grad else torch.zeros_like(z)

        case = {
            "student": student,
            "labels": labels,
            "hyper": torch.tensor([temperature, alpha], dtype=torch.float64),
            "soft": soft.detach().reshape(1),
            "hard": hard.detach().reshape(1),
            "loss": loss.detach().reshape(1),
            "grad": grad,
        }
        if has_teacher:
            case["teacher"] = teacher
        tensors |= {f"case{i}.{name}": tensor for name, tensor in case.items()}
    return tensors


def class_weights() -> dict[str, Tensor]:
    """Cross-entropy with class weights: the mean is over the weights of the rows that have a label."""
    generator = torch.Generator().manual_seed(4)
    tensors = {}
    # rows, classes, ignored rows
    for i, (rows, classes, ignored) in enumerate([(9, 3, [4]), (70, 10, []), (5, 1000, [0, 3])]):
        student = torch.randn(rows, classes, generator=generator) * 3
        labels = torch.randint(classes, (rows,), generator=generator, dtype=torch.int32)
        labels[ignored] = IGNORED
        weights = torch.rand(classes, generator=generator) * 4
        weights[labels[1]] = 0
        z = student.double().requires_grad_()
        entropy = nn.CrossEntropyLoss(weight=weights.double(), ignore_index=IGNORED)
        loss = entropy(z, labels.long())
        case = {"student": student, "labels": labels, "weights": weights}
        case["loss"] = loss.detach().reshape(1)
        case["grad"] = torch.autograd.grad(loss, z)[0]
        tensors |= {f"case{i}.{name}": tensor for name, tensor in case.items()}
    return tensors


def jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """β KL(p ‖ m) + (1 - β) KL(q ‖ m) of every row of log-probabilities."""
    parts = torch.stack([log_p + math.log(beta), log_q + math.log1p(-beta)])
    log_m = torch.logsumexp(parts, dim=0)
    of_p, of_q = (
        F.kl_div(log_m, log, reduction="none", log_target=True).sum(dim=1) for log in (log_p, log_q)
    )
    return beta * of_p + (1 - beta) * of_q


def divergence(log_p: Tensor, log_q: Tensor, kind: float) -> Tensor:
    """Of every row: forward KL (-1), reverse KL (0), or a Jensen-Shannon divergence (beta)."""
    if kind > 0:
        return jensen_shannon(log_p, log_q, kind)
    pair = (log_q, log_p) if kind < 0 else (log_p, log_q)
    return F.kl_div(*pair, reduction="none", log_target=True).sum(dim=1)


def divergences() -> dict[str, Tensor]:
    """Soft losses of other divergences than forward KL: T² times the mean over the rows."""
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    # rows, classes, temperature, scale of the logits, 0 for reverse KL or beta
    cases = [
        (4, 10, 1.0, 2.0, 0.0),
        (5, 37, 4.0, 6.0, 0.0),
        (3, 300, 20.0, 8.0, 0.0),
        (4, 10, 1.0, 2.0, 0.5),
        (5, 37, 4.0, 6.0, 0.125),
        (3, 300, 20.0, 8.0, 0.875),
        (6, 2, 0.5, 3.0, 0.5),
        (2, 5, 1.0, 100.0, 0.25),  # answers with nothing in common
    ]
    for i, (rows, classes, temperature, scale, kind) in enumerate(cases):
        student, teacher = (
            torch.randn(rows, classes, generator=generator) * scale for _ in range(2)
        )
        z = student.double().requires_grad_()
        log_q, log_p = (F.log_softmax(x / temperature, dim=1) for x in (z, teacher.double()))
        soft = temperature**2 * divergence(log_p, log_q, kind).mean()
        case = {
            "student": student,
            "teacher": teacher,
            "hyper": torch.tensor([temperature, kind], dtype=torch.float64),
            "soft": soft.detach().reshape(1),
            "grad": torch.autograd.grad(soft, z)[0],
        }
        tensors |= {f"case{i}.{name}": tensor for name, tensor in case.items()}
    return tensors


def standardised(z: Tensor) -> Tensor:
    """Each row less its mean, over its standard deviation (Sun et al. 2024)."""
    return (z - z.mean(dim=1, keepdim=True)) / (z.std(dim=1, keepdim=True) + 1e-7)


def decoupled(z: Tensor, teacher: Tensor, labels: Tensor, weights: tuple[float, float]) -> Tensor:
    """Decoupled KL of every row (Zhao et al. 2022), of logits that are divided by the temperature."""
    is_label = F.one_hot(labels, z.shape[1]).bool()

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(logits, dim=1)
        rest = log_p.masked_fill(is_label, -torch.inf).logsumexp(dim=1)
        pair = torch.stack([log_p[is_label], rest], dim=1)
        others = F.log_softmax(logits[~is_label].reshape(len(logits), -1), dim=1)
        return pair, others

    (q_pair, q_others), (p_pair, p_others) = parts(z), parts(teacher)
    of_label = F.kl_div(q_pair, p_pair, reduction="none", log_target=True).sum(dim=1)
    of_others = F.kl_div(q_others, p_others, reduction="none", log_target=True).sum(dim=1)
    return weights[0] * of_label + weights[1] * of_others


def logit_losses() -> dict[str, Tensor]:
    """Decoupled KL, standardised logits and smoothed labels, together with cross-entropy; means over the rows."""
    generator = torch.Generator().manual_seed(9)
    tensors = {}
    nothing = (math.nan, math.nan)
    # rows, classes, temperature, scale of the logits, alpha, smoothing, standardised, weights of decoupled KL
    cases = [
        (4, 10, 4.0, 4.0, 0.5, 0.0, False, (1.0, 8.0)),
        (8, 37, 1.0, 2.0, 0.75, 0.125, False, (1.0, 0.5)),
        (2, 150, 20.0, 8.0, 1.0, 0.0, False, (2.0, 6.0)),
        (4, 3, 0.5, 20.0, 0.75, 0.0, False, (1.0, 8.0)),
        (4, 10, 2.0, 4.0, 0.5, 0.0, True, nothing),
        (2, 200, 2.0, 0.01, 0.75, 0.25, True, nothing),
        (4, 37, 4.0, 6.0, 0.75, 0.0, True, (1.0, 8.0)),
        (8, 10, 4.0, 4.0, 0.25, 0.125, False, nothing),
    ]
    for i, (rows, classes, temperature, scale, alpha, smoothing, scores, weights) in enumerate(cases):
        student, teacher = (
            torch.randn(rows, classes, generator=generator) * scale for _ in range(2)
        )
        labels = torch.randint(classes, (rows,), generator=generator, dtype=torch.int32)
        z = student.double().requires_grad_()
        pair = [standardised(x) if scores else x for x in (z, teacher.double())]
        ours, theirs = (x / temperature for x in pair)
        if math.isnan(weights[0]):
            logs = (F.log_softmax(x, dim=1) for x in (ours, theirs))
            soft = F.kl_div(*logs, reduction="none", log_target=True).sum(dim=1)
        else:
            soft = decoupled(ours, theirs, labels.long(), weights)
        soft = temperature**2 * soft.mean()
        hard = F.cross_entropy(z, labels.long(), label_smoothing=smoothing)
        loss = alpha * soft + (1 - alpha) * hard
        hyper = [temperature, alpha, smoothing, float(scores), *weights]
        case = {
            "student": student,
            "teacher": teacher,
            "labels": labels,
            "hyper": torch.tensor(hyper, dtype=torch.float64),
            "soft": soft.detach().reshape(1),
            "loss": loss.detach().reshape(1),
            "grad": torch.autograd.grad(loss, z)[0],
        }
        tensors |= {f"case{i}.{name}": tensor for name, tensor in case.items()}
    return tensors


def pointwise_row(
    z: Tensor, teacher: Tensor, labels: Tensor, temperature: float, kind: float | None
) -> tuple[Tensor, Tensor]:
    """Soft and hard term of one row's outputs; no kind for squares."""
    known = ~labels.isnan()
    if kind is None:
        return F.mse_loss(z, teacher), F.mse_loss(z[known], labels[known])
    hard = F.binary_cross_entropy_with_logits(z[known], labels[known])
    log_q, log_p = (
        torch.stack([F.logsigmoid(x / temperature), F.logsigmoid(-x / temperature)], dim=1)
        for x in (z, teacher)
    )
    return temperature**2 * divergence(log_p, log_q, kind).mean(), hard


def pointwise_losses() -> dict[str, Tensor]:
    """Losses of outputs that do not share a softmax; the first row has a missing label, the last has no hard term."""
    generator = torch.Generator().manual_seed(6)
    tensors = {}
    # rows, outputs, temperature, alpha, scale of the outputs, kind: NaN for squares, else as of divergence
    cases = [
        (4, 5, 1.0, 0.5, 2.0, math.nan),
        (3, 1, 4.0, 0.25, 3.0, math.nan),
        (4, 5, 1.0, 0.5, 2.0, -1.0),
        (3, 130, 4.0, 0.75, 6.0, -1.0),
        (4, 5, 0.5, 0.5, 2.0, 0.0),
        (4, 5, 2.0, 0.5, 2.0, 0.5),
        (3, 7, 20.0, 0.75, 8.0, 0.125),
    ]
    for i, (rows, outputs, temperature, alpha, scale, kind) in enumerate(cases):
        student, teacher = (
            torch.randn(rows, outputs, generator=generator) * scale for _ in range(2)
        )
        is_square = math.isnan(kind)
        labels = torch.rand(rows, outputs, generator=generator)
        labels = labels * 4 - 2 if is_square else torch.where(labels < 0.7, labels.round(), labels)
        if outputs > 1:
            labels[0, 0] = math.nan
        z = student.double().requires_grad_()
        terms = [
            pointwise_row(*row, temperature, None if is_square else kind)
            for row in zip(z, teacher.double(), labels.double())
        ]
        soft = torch.stack([soft for soft, _ in terms]).mean()
        hard = torch.stack([hard for _, hard in terms[:-1]]).mean()
        loss = alpha * soft + (1 - alpha) * hard
        case = {
            "student": student,
            "teacher": teacher,
            "labels": labels,
            "hyper": torch.tensor([temperature, alpha, kind], dtype=torch.float64),
            "soft": soft.detach().reshape(1),
            "hard": hard.detach().reshape(1),
            "loss": loss.detach().reshape(1),
            "grad": torch.autograd.grad(loss, z)[0],
        }
        tensors |= {f"case{i}.{name}": tensor for name, tensor in case.items()}
    return tensors


class Mlp(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


OPTIMIZERS: dict[str, Callable] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(
        p, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05
    ),
    "sgd_clip": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9),
}


def train(
    name: str, student: Mlp, teacher: Mlp, inputs: Tensor, labels: Tensor, max_norm: float
) -> Tensor:
    """Distil over all batches with T = 4 and alpha = 0.7; the loss before each update."""
    optimizer = OPTIMIZERS[name](student.parameters())
    losses = []
    for x, y in zip(inputs, labels):
        with torch.no_grad():
            teacher_logits = teacher(x)
        _, _, loss = distillation_loss(student(x), teacher_logits, y, 4.0, 0.7)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), max_norm)
        optimizer.step()
    return torch.stack(losses)


def training_run() -> dict[str, Tensor]:
    torch.manual_seed(2)
    teacher, student = Mlp(20, 24, 5), Mlp(20, 16, 12, 5)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter *= 3  # so that the teacher is sure of something
        inputs = torch.randn(100, 16, 20)
        guesses = teacher(inputs).argmax(dim=2)
        wrong = torch.rand(100, 16) < 0.1
        labels = torch.where(wrong, torch.randint(5, (100, 16)), guesses).int()

    def weights(prefix: str, model: Mlp) -> dict[str, Tensor]:
        return {f"{prefix}.{key}": value.clone() for key, value in model.state_dict().items()}

    tensors = {"inputs": inputs, "labels": labels}
    tensors |= weights("teacher", teacher) | weights("student", student)
    for name in OPTIMIZERS:
        max_norm = 0.5 if name == "sgd_clip" else float("inf")
        for suffix, dtype in (("", torch.float32), ("_f64", torch.float64)):
            copies = Mlp(20, 16, 12, 5).to(dtype), Mlp(20, 24, 5).to(dtype)
            copies[0].load_state_dict(student.state_dict())
            copies[1].load_state_dict(teacher.state_dict())
            tensors[f"losses{suffix}.{name}"] = train(
                name, *copies, inputs.to(dtype), labels, max_norm
            )
            if name in ("sgd", "adamw") and dtype == torch.float32:
                tensors |= weights(f"final.{name}", copies[0])
    return tensors


def gelu() -> dict[str, Tensor]:
    x = (torch.arange(-20, 21) * 0.3).double().requires_grad_()  # -6 to 6, each one exact in f32
    tensors = {"x": x.detach()}
    for name, approximate in (("erf", "none"), ("tanh", "tanh")):
        y = F.gelu(x, approximate=approximate)
        tensors[f"{name}.value"] = y.detach()
        tensors[f"{name}.derivative"] = torch.autograd.grad(y.sum(), x)[0]
    return tensors


def layer_norm() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    # rows, cols, eps, mean and spread of x
    cases = [
        (1, 3, 1e-5, 0.0, 1.0),
        (20, 48, 1e-12, 0.5, 2.0),
        (7, 100, 1e-5, 1e4, 1.0),
        (3, 130, 1e-5, 0.0, 1e-3),  # eps is more than the variance
    ]
    for i, (rows, cols, eps, mean, spread) in enumerate(cases):
        x, dy = (torch.randn(rows, cols, generator=generator) for _ in range(2))
        weight, bias = (torch.randn(cols, generator=generator) for _ in range(2))
        x = x * spread + mean
        inputs = [t.double().requires_grad_() for t in (x, weight, bias)]
        # Other implementations take eps in f32.
        eps = torch.tensor(eps, dtype=torch.float32).item()
        y = F.layer_norm(inputs[0], (cols,), *inputs[1:], eps)
        gradients = torch.autograd.grad(y, inputs, dy.double())
        case = {"x": x, "weight": weight, "bias": bias, "dy": dy, "y": y.detach()}
        case["eps"] = torch.tensor([eps], dtype=torch.float64)
        case |= zip(("dx", "dweight", "dbias"), gradients)
        tensors |= {f"case{i}.{name}": tensor for name, tensor in case.items()}
    return tensors


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, make in (
        ("distill_loss", loss_cases),
        ("class_weights", class_weights),
        ("divergences", divergences),
        ("logit_losses", logit_losses),
        ("pointwise_loss", pointwise_losses),
        ("training_run", training_run),
        ("gelu", gelu),
        ("layer_norm", layer_norm),
    ):
        path = FIXTURES / f"{name}.safetensors"
        save_file(
            make(),
            path,
            metadata={"made_by": f"tools/make_fixtures.py, PyTorch {torch.__version__}"},
        )
        print(f"{path.stat().st_size:8} {path.relative_to(FIXTURES.parent.parent)}")


if __name__ == "__main__":
    main()
