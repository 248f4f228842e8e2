#!/usr/bin/env python3
"""How many of 1,000 flipped bits torch.load and safetensors notice: for docs/reliability.md.

Needs torch and safetensors:  python tools/flip_bits.py
"""

import os
import random
import tempfile

import safetensors
import torch
from safetensors.torch import load_file, save_file

FLIPS = 1000
torch.manual_seed(1)
STATE = {"weight": torch.randn(200, 200), "bias": torch.randn(200)}


def is_same(found):
    return set(found) == set(STATE) and all(torch.equal(found[k], STATE[k]) for k in STATE)


def main():
    random.seed(1)
    folder = tempfile.mkdtemp()
    whole, flipped = os.path.join(folder, "whole"), os.path.join(folder, "flipped")
    print(f"torch {torch.__version__}, safetensors {safetensors.__version__}")
    for name, save, load in [
        ("torch.save, torch.load", torch.save, torch.load),
        ("safetensors", save_file, load_file),
    ]:
        save(STATE, whole)
        with open(whole, "rb") as file:
            original = file.read()
        refused = wrong = 0
        for _ in range(FLIPS):
            at, damaged = random.randrange(8 * len(original)), bytearray(original)
            damaged[at // 8] ^= 1 << (at % 8)
            with open(flipped, "wb") as file:
                file.write(damaged)
            try:
                wrong += not is_same(load(flipped))
            except Exception:
                refused += 1
        print(f"{name}: {FLIPS} flipped bits, {refused} refused, {wrong} loaded as other values")


if __name__ == "__main__":
    main()
