#!/usr/bin/env python3
"""Make tests/fixtures/resnet*.safetensors: three training steps of small residual networks by PyTorch.

tests/fixtures/README.md says what each tensor is. The same machine and PyTorch give the same bytes.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
STEPS, ROWS, CLASSES = 3, 6, 5
PICTURE = (2, 9, 8)
WIDTHS = (6, 8, 12)


def conv(inputs: int, outputs: int, taps: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, taps, stride, padding=taps // 2, bias=False)


class Block(nn.Module):
    """A basic block; with `pre`, of a network that normalises in front of its convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int, pre: bool) -> None:
        super().__init__()
        self.pre = pre
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(inputs if pre else outputs)
        self.conv2 = conv(outputs, outputs, 3, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if inputs != outputs or stride != 1:
            point = conv(inputs, outputs, 1, stride)
            norm = [] if pre else [nn.BatchNorm2d(outputs)]
            self.downsample = nn.Sequential(point, *norm)

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            active = F.relu(self.bn1(x))
            by = x if self.downsample is None else self.downsample(active)
            return self.conv2(F.relu(self.bn2(self.conv1(active)))) + by
        by = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + by)


class ResNet(nn.Module):
    """One block a stage: ResNet-8, or WRN-10 where it normalises in front."""

    def __init__(self, pre: bool) -> None:
        super().__init__()
        self.pre = pre
        self.conv1 = conv(PICTURE[0], WIDTHS[0], 3, 1)
        self.bn1 = nn.BatchNorm2d(WIDTHS[-1] if pre else WIDTHS[0])
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, 1):
            blocks = nn.Sequential(Block(inputs, width, 1 if stage == 1 else 2, pre))
            setattr(self, f"layer{stage}", blocks)
            inputs = width
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if not self.pre:
            x = F.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.pre:
            x = F.relu(self.bn1(x))
        return self.fc(x.mean((2, 3)))


def run(pre: bool, dtype: torch.dtype, tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    torch.manual_seed(5)
    model = ResNet(pre).float()
    made = {f"start.{name}": value.clone() for name, value in model.state_dict().items()}
    made["inputs"] = torch.randn(STEPS + 1, ROWS, *PICTURE) * 1.5 + 0.3
    made["labels"] = torch.randint(0, CLASSES, (STEPS, ROWS), dtype=torch.int32)
    model = model.to(dtype)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.125, momentum=0.875)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(made["inputs"][step].to(dtype)), made["labels"][step].long())
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    model.eval()
    made["losses"] = torch.stack(losses).double()
    made["logits"] = model(made["inputs"][STEPS].to(dtype)).detach().double()
    made |= {f"end.{name}": value.double() for name, value in model.state_dict().items()}
    return made


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    metadata = {"made_by": f"tools/make_resnet_fixture.py, PyTorch {torch.__version__}"}
    for name, pre in [("resnet", False), ("resnet-pre-activation", True)]:
        made = run(pre, torch.float64)
        single = run(pre, torch.float32)
        print(name, "f32 and f64 differ by", (made["losses"] - single["losses"]).abs().max().item())
        made = {key: value for key, value in made.items() if not key.endswith("batches_tracked")}
        small = {k: v.float() if k.startswith("end.") else v for k, v in made.items()}
        save_file(small, FIXTURES / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    main()
