#!/usr/bin/env python3
"""Make the fixtures of soft losses and their gradients to 40 digits, from T = 0.01 to T = 10,000.

tests/fixtures/temperatures.json holds forward KL, divergences.json reverse KL and generalised Jensen-Shannon
divergences, bounded_divergences.json skew KLs and the total variation, binary_divergences.json all of them between two
answers of yes or no, element by element. Logits are made of whole numbers, as tests/tests/temperatures.rs makes them again; only standard modules are used.
"""

import json
import struct
from decimal import MIN_EMIN, Decimal, getcontext, localcontext
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
# e^x - 1 - x of x = 1e-7 loses 14 of them.
getcontext().prec = 40
# Of probabilities that f64 has as 0, logarithms are taken.
getcontext().Emin = MIN_EMIN
TEMPERATURES = [0.01, 0.1, 1.0, 4.0, 20.0, 21.0, 100.0, 1000.0, 10000.0]
# Of the teacher's logits, and of the student's differences from them: apart, close, extreme.
SPREADS = [(8.0, 8.0), (8.0, 0.0078125), (16384.0, 16384.0)]
SHOWN = 8
# Betas of the Jensen-Shannon divergences; 0 stands for reverse KL.
BETAS = [0.0, 0.125, 0.5, 0.9375]
# Divergences that are written by name, with their number.
NAMED = [
    ("skew-kl", 0.1),
    ("skew-kl", 0.875),
    ("skew-reverse-kl", 0.1),
    ("skew-reverse-kl", 0.875),
    ("total-variation", 0.0),
]


def f32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def logits(classes: int, spread: float, gap: float) -> tuple[list[float], list[float]]:
    """Of student and teacher."""
    teacher = [spread * ((j * 7919 + 13) % 1009 - 504) / 512 for j in range(classes)]
    gaps = [gap * ((j * 104729 + 71) % 997 - 498) / 512 for j in range(classes)]
    return [f32(t + d) for t, d in zip(teacher, gaps)], teacher


def softmax(row: list[Decimal]) -> list[Decimal]:
    top = max(row)
    powers = [(value - top).exp() for value in row]
    total = sum(powers)
    return [power / total for power in powers]


def case(classes: int, spread: float, gap: float, temperature: float) -> dict:
    exact = Decimal(f32(temperature))
    z_s, z_t = ([Decimal(z) / exact for z in row] for row in logits(classes, spread, gap))
    q, p = softmax(z_s), softmax(z_t)
    # ln p - ln q = (z_t - z_s) / T less the same for every class, which is found where p is largest.
    best = max(range(classes), key=lambda j: p[j])
    shift = (p[best] / q[best]).ln() - (z_t[best] - z_s[best])
    kl = sum(p[j] * (z_t[j] - z_s[j] + shift) for j in range(classes))
    gradient = [exact * (q[j] - p[j]) for j in range(classes)]
    return {
        "classes": classes,
        "spread": spread,
        "gap": gap,
        "temperature": temperature,
        "soft": float(exact * exact * kl),
        "gradient": [float(g) for g in gradient[:SHOWN]],
        "largest": float(max(abs(g) for g in gradient)),
    }


def divergence(beta: float, p: list[Decimal], q: list[Decimal], x: list[Decimal]) -> list[tuple[Decimal, Decimal]]:
    """Of each class: its part of the divergence, and the derivative of that by q; x = ln q - ln p."""
    if beta == 0:
        return [(b * d, d + 1) for b, d in zip(q, x)]
    b, c = Decimal(beta), 1 - Decimal(beta)
    made = []
    for p_j, q_j, x_j in zip(p, q, x):
        # ln p - ln m and ln q - ln m, the larger of p and q being what is divided by.
        if x_j > 0:
            of_q = -(b * (-x_j).exp() + c).ln()
            of_p = of_q - x_j
        else:
            of_p = -(b + c * x_j.exp()).ln()
            of_q = of_p + x_j
        made.append((b * p_j * of_p + c * q_j * of_q, c * of_q))
    return made


def named_divergence(name: str, number: float, p: list[Decimal], q: list[Decimal]) -> list[tuple[Decimal, Decimal]]:
    """As divergence, by the definitions: f(p, q) of each class, and its derivative by q."""
    made = []
    for p_j, q_j in zip(p, q):
        if name == "total-variation":
            side = Decimal(0) if p_j == q_j else Decimal("0.5").copy_sign(q_j - p_j)
            made.append((abs(p_j - q_j) / 2, side))
            continue
        a = Decimal(f32(number))
        if name == "skew-kl":
            m = a * p_j + (1 - a) * q_j
            made.append((p_j * (p_j / m).ln(), -(1 - a) * p_j / m))
        else:
            m = (1 - a) * p_j + a * q_j
            made.append((q_j * (q_j / m).ln(), (q_j / m).ln() + 1 - a * q_j / m))
    return made


def softmaxes(classes: int, spread: float, gap: float, exact: Decimal) -> tuple[list[Decimal], ...]:
    """q, p and ln q - ln p."""
    z_s, z_t = ([Decimal(z) / exact for z in row] for row in logits(classes, spread, gap))
    q, p = softmax(z_s), softmax(z_t)
    best = max(range(classes), key=lambda j: p[j])
    shift = (q[best] / p[best]).ln() - (z_s[best] - z_t[best])
    return q, p, [s - t + shift for s, t in zip(z_s, z_t)]


def divergence_cases(classes: int, spread: float, gap: float, temperature: float) -> list[dict]:
    exact = Decimal(f32(temperature))
    q, p, x = softmaxes(classes, spread, gap, exact)
    cases = []
    for beta in BETAS if classes <= 10 else BETAS[:3]:
        parts = divergence(beta, p, q, x)
        mean = sum(q_j * slope for q_j, (_, slope) in zip(q, parts))
        gradient = [exact * q_j * (slope - mean) for q_j, (_, slope) in zip(q, parts)]
        cases.append({
            "classes": classes,
            "spread": spread,
            "gap": gap,
            "temperature": temperature,
            "beta": beta,
            "soft": float(exact * exact * sum(part for part, _ in parts)),
            "gradient": [float(g) for g in gradient[: SHOWN // 2]],
            "largest": float(max(abs(g) for g in gradient)),
        })
    return cases


def named_cases(classes: int, spread: float, gap: float, temperature: float) -> list[dict]:
    exact = Decimal(f32(temperature))
    q, p, _ = softmaxes(classes, spread, gap, exact)
    cases = []
    for name, number in NAMED if classes <= 10 else NAMED[::2]:
        parts = named_divergence(name, number, p, q)
        mean = sum(q_j * slope for q_j, (_, slope) in zip(q, parts))
        gradient = [exact * q_j * (slope - mean) for q_j, (_, slope) in zip(q, parts)]
        cases.append({
            "classes": classes,
            "spread": spread,
            "gap": gap,
            "temperature": temperature,
            "divergence": name,
            "number": number,
            "soft": float(exact * exact * sum(part for part, _ in parts)),
            "gradient": [float(g) for g in gradient[: SHOWN // 2]],
            "largest": float(max(abs(g) for g in gradient)),
        })
    return cases


def binary_case(student: float, teacher: float, temperature: float) -> dict:
    """T² times each divergence between the sigmoids of two logits, and its derivative by the student's."""
    exact = Decimal(f32(temperature))
    a, b = Decimal(f32(student)) / exact, Decimal(f32(teacher)) / exact

    def softplus(v: Decimal) -> Decimal:
        # ln(1 + e^v) of a small e^v is more than the digits can tell from 0.
        power = (-abs(v)).exp()
        small = power - power * power / 2 + power**3 / 3
        return max(v, Decimal(0)) + (small if power < Decimal("1e-200") else (1 + power).ln())

    q, p = ([(-softplus(-v)).exp(), (-softplus(v)).exp()] for v in (a, b))
    x = [softplus(-b) - softplus(-a), softplus(b) - softplus(a)]
    made = {}
    for beta in [None, *BETAS]:
        if beta is None:
            parts = [(p_j * -d, -p_j / q_j) for p_j, q_j, d in zip(p, q, x)]
            slope = q[0] * p[1] - p[0] * q[1]
        else:
            parts = divergence(beta, p, q, x)
            slope = q[0] * q[1] * (parts[0][1] - parts[1][1])
        soft = exact * exact * sum(part for part, _ in parts)
        made["kl" if beta is None else str(beta)] = [float(soft), float(exact * slope)]
    for name, number in NAMED[::2]:
        parts = named_divergence(name, number, p, q)
        slope = q[0] * q[1] * (parts[0][1] - parts[1][1])
        soft = exact * exact * sum(part for part, _ in parts)
        made[name] = [float(soft), float(exact * slope)]
    return {"student": f32(student), "teacher": f32(teacher), "temperature": temperature} | made


def write(name: str, cases: list[dict]) -> None:
    lines = ",\n".join(json.dumps(made) for made in cases)
    (FIXTURES / name).write_text(f"[\n{lines}\n]\n")


def main() -> None:
    settings = [
        (classes, spread, gap, temperature)
        for classes in (2, 10, 1000, 32768)
        for spread, gap in SPREADS
        for temperature in TEMPERATURES
    ]
    write("temperatures.json", [case(*setting) for setting in settings])
    write("divergences.json", [made for setting in settings for made in divergence_cases(*setting)])
    # Of models that are nearly sure, q - p of the likeliest class is e^-274, and has a sign.
    with localcontext() as context:
        context.prec = 160
        named = [made for setting in settings if setting[0] <= 1000 for made in named_cases(*setting)]
    write("bounded_divergences.json", named)
    # Apart, close, of either sign, sure and unsure, extreme.
    pairs = [(1.5, -0.75), (-2.0, 1.0), (0.5, 0.5078125), (-9.0, -9.0078125), (0.0, 0.25), (7.0, 12.0), (-30.0, 30.0)]
    pairs += [(30.0, 20.0), (80.0, 79.5), (1e4, 9990.0), (-1e4, 1e4), (1e4, 1e4), (-100.0, -1e4), (0.3, 0.0)]
    # The smallest that f64 holds cancel 300 digits.
    with localcontext() as context:
        context.prec = 700
        binary = [binary_case(*pair, temperature) for pair in pairs for temperature in TEMPERATURES]
    write("binary_divergences.json", binary)


if __name__ == "__main__":
    main()
