#!/usr/bin/env python3
"""Make tests/fixtures/temperatures.json: the soft loss and its gradient to 40 digits, from T = 0.01 to T = 10,000.

Logits are made by whole numbers, as tests/src/temperatures.rs makes them again; only standard modules are used.
"""

import json
import struct
from decimal import Decimal, getcontext
from pathlib import Path

FIXTURE = Path(__file__).resolve().parent.parent / "tests/fixtures/temperatures.json"
# e^x - 1 - x of x = 1e-7 loses 14 of them.
getcontext().prec = 40
TEMPERATURES = [0.01, 0.1, 1.0, 4.0, 20.0, 21.0, 100.0, 1000.0, 10000.0]
# Of the teacher's logits, and of the student's differences from them: apart, close, extreme.
SPREADS = [(8.0, 8.0), (8.0, 0.0078125), (16384.0, 16384.0)]
SHOWN = 8


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


def main() -> None:
    cases = [
        case(classes, spread, gap, temperature)
        for classes in (2, 10, 1000, 32768)
        for spread, gap in SPREADS
        for temperature in TEMPERATURES
    ]
    lines = ",\n".join(json.dumps(made) for made in cases)
    FIXTURE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
