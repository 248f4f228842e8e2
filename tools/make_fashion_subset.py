#!/usr/bin/env python3
"""Make data/fashion-mnist/, the embedded default data set, from the whole of Fashion-MNIST.

Takes 500 training and 100 test images of each class, in an order fixed by SHA-256 of the image's
number, and writes them as gzipped IDX files. Needs nothing but the standard library. Run
data/fetch-fashion-mnist.sh first, then: python3 tools/make_fashion_subset.py
"""

import gzip
import hashlib
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "data/cache/fashion-mnist"
TARGET = ROOT / "data/fashion-mnist"
CLASSES = 10
PIXELS = 28 * 28
PER_CLASS = {"train": 500, "t10k": 100}
NAMES = {"train": "train", "t10k": "test"}  # upstream's name of a split, and ours


def pick(labels: bytes, per_class: int, split: str) -> list[int]:
    """The numbers of the chosen images, balanced over the classes, in a shuffled order."""

    def shuffled(index: int) -> bytes:
        return hashlib.sha256(f"distil-gpu {split} {index}".encode()).digest()

    left = [per_class] * CLASSES
    chosen = []
    for index in sorted(range(len(labels)), key=shuffled):
        if left[labels[index]] > 0:
            left[labels[index]] -= 1
            chosen.append(index)
    return chosen


def write(name: str, data: bytes) -> None:
    (TARGET / name).write_bytes(gzip.compress(data, 9, mtime=0))
    print(hashlib.sha256(data).hexdigest(), name.removesuffix(".gz"))


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    for split, per_class in PER_CLASS.items():
        images = (SOURCE / f"{split}-images-idx3-ubyte").read_bytes()[16:]
        labels = (SOURCE / f"{split}-labels-idx1-ubyte").read_bytes()[8:]
        chosen = pick(labels, per_class, split)
        pixels = b"".join(images[i * PIXELS : (i + 1) * PIXELS] for i in chosen)
        name = NAMES[split]
        write(
            f"{name}-images-idx3-ubyte.gz", struct.pack(">4I", 0x803, len(chosen), 28, 28) + pixels
        )
        write(
            f"{name}-labels-idx1-ubyte.gz",
            struct.pack(">2I", 0x801, len(chosen)) + bytes(labels[i] for i in chosen),
        )


if __name__ == "__main__":
    main()
