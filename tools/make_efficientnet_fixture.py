#!/usr/bin/env python3
"""Make tests/fixtures/efficientnet.safetensors: logits of timm's networks whose weights follow from a formula.

tests/fixtures/README.md has the formula. Needs torch and timm.
"""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
CASES = [
    ("mobilenetv2_035", (3, 40, 37), 5),
    ("mobilenetv2_140", (1, 32, 32), 3),
    ("efficientnet_lite0", (3, 33, 48), 4),
    ("tf_efficientnet_lite0", (3, 34, 47), 4),
    ("tf_efficientnet_lite2", (1, 38, 38), 3),
]


def values(name: str, shape: torch.Size) -> torch.Tensor:
    count = shape.numel()
    spread = (torch.arange(count, dtype=torch.int64) * 7919 + len(name) * 104729) % 2003
    spread = spread.double() / 2003 - 0.5
    if name.endswith(("running_var", "weight")) and len(shape) == 1:
        made = 1 + spread / 2
    elif len(shape) == 1:
        made = spread / 4
    else:
        made = spread * (24 / (count // shape[0])) ** 0.5
    return made.reshape(shape).float()


def main() -> None:
    torch.set_num_threads(1)
    tensors = {}
    for name, picture, classes in CASES:
        network = timm.create_model(name, num_classes=classes, in_chans=picture[0])
        state = network.state_dict()
        made = {key: values(key, v.shape) for key, v in state.items() if v.is_floating_point()}
        network.load_state_dict(state | made)
        generator = torch.Generator().manual_seed(3)
        inputs = torch.randn(2, *picture, generator=generator)
        with torch.no_grad():
            logits = network.double().eval()(inputs.double())
        print(name, logits.abs().max().item())
        tensors |= {f"{name}.inputs": inputs, f"{name}.logits": logits}
    metadata = {"made_by": f"tools/make_efficientnet_fixture.py, PyTorch {torch.__version__}, timm {timm.__version__}"}
    save_file(tensors, FIXTURES / "efficientnet.safetensors", metadata)


if __name__ == "__main__":
    main()
