"""What a file or a folder is that is no teacher yet, and what to do about it; needs no torch and runs nothing."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from archsearch.data.archive import check_directory
from archsearch.data.limits import Limits
from archsearch.errors import InvalidRequest, TeacherError, TooLarge
from archsearch.zoos.encoders import FAMILIES
from archsearch.zoos.image_networks import is_image_network

# Names that weights go by, so that one given for a timm model is known for what it is.
SUFFIXES = frozenset(
    [
        ".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors", ".onnx", ".h5", ".hdf5", ".keras", ".pb", ".tflite",
        ".gguf", ".mlmodel", ".pkl", ".npz",
    ]
)  # fmt: skip
# torchvision's names that timm spells otherwise, or that name other networks there.
_TORCHVISION = {
    "mobilenet_v2": "mobilenetv2_100.ra_in1k", "mobilenet_v3_large": "mobilenetv3_large_100.ra_in1k",
    "mobilenet_v3_small": "mobilenetv3_small_100.lamb_in1k", "mnasnet1_0": "mnasnet_100.rmsp_in1k",
    "vit_b_16": "vit_base_patch16_224.augreg_in1k", "vit_b_32": "vit_base_patch32_224.augreg_in1k",
    "vit_l_16": "vit_large_patch16_224.augreg_in21k_ft_in1k", "swin_t": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_s": "swin_small_patch4_window7_224.ms_in1k", "swin_b": "swin_base_patch4_window7_224.ms_in1k",
    "efficientnet_v2_s": "tf_efficientnetv2_s.in1k", "efficientnet_v2_m": "tf_efficientnetv2_m.in1k",
    "regnet_y_400mf": "regnety_004.tv2_in1k", "regnet_y_800mf": "regnety_008_tv.tv2_in1k",
    "regnet_y_1_6gf": "regnety_016.tv2_in1k", "regnet_y_3_2gf": "regnety_032.tv2_in1k",
    "regnet_x_400mf": "regnetx_004_tv.tv2_in1k", "regnet_x_800mf": "regnetx_008.tv2_in1k",
}  # fmt: skip
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "keras"),
    (b"GGUF", "gguf"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
)
# What PyTorch saves has one for every tensor.
_MOST_MEMBERS = 20_000
# What makes safetensors of a checkpoint that is its weights and nothing else, without running what is in it.
AS_SAFETENSORS = (
    "where they are, two lines of Python make safetensors of them: "
    "`weights = torch.load('model.pth', weights_only=True)` and "
    "`safetensors.torch.save_file(weights, 'model.safetensors')`"
)
_SAVE = (
    "load it where it was made, save its weights with torch.save(model.state_dict(), 'weights.pth') and run "
    "`archsearch convert weights.pth --out teacher`"
)
_OTHERS = {
    "torchscript": f"a TorchScript program, whose weights cannot be trusted without its code; {_SAVE}",
    "exported": f"an exported PyTorch program (.pt2), which has no features to learn from; {_SAVE}",
    "onnx": "an ONNX graph, which is a teacher as it is: give the path of the .onnx file, or upload it and register it "
    "with kind 'onnx'",
    "keras": "a Keras or TensorFlow model; a teacher is a PyTorch network: port its weights to the timm model of the "
    "same architecture, or train one with `archsearch train-teacher --pretrained`",
    "tflite": "a TensorFlow Lite model; a teacher is a PyTorch network: take the network it was made from",
    "gguf": "a GGUF language model; a teacher is an image classifier",
    "numpy": "a NumPy archive; if it holds images it is data (--data), if weights, save them as safetensors",
    "zip": "a zip archive; unpack it and give the folder or the weights inside",
    "empty": "an empty file; was the copy cut short?",
    "unknown": "no kind of weights archsearch knows; it takes folders with config.json and model.safetensors",
}


def kind_of(path: Path) -> str:
    """By its first bytes: safetensors, torch (a zip), pickle, or what `describe_bytes` has words for."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "empty"
    if head[:4] == b"PK\x03\x04":
        return _kind_of_zip(path)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[4:8] == b"TFL3":
        return "tflite"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    return "onnx" if path.suffix == ".onnx" or _is_onnx(head) else "unknown"


def _is_onnx(head: bytes) -> bool:
    """An ONNX file is a protobuf, which has no magic: its version comes first, below any that will be, and then the
    producer, the model's version, its description, the graph or the operator sets."""
    return (
        len(head) > 2
        and head[0] == 0x08
        and 0 < head[1] < 0x40
        and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)
    )


def describe_bytes(kind: str) -> str:
    """What a kind of file is, and what to do about it."""
    return _OTHERS.get(kind, _OTHERS["unknown"])


def _kind_of_zip(path: Path) -> str:
    try:
        with path.open("rb") as file:
            check_directory(file, Limits(max_members=_MOST_MEMBERS))
            inside = zipfile.ZipFile(file).namelist()
        names = {Path(name).name for name in inside}
    except TooLarge:
        return "zip"
    except (zipfile.BadZipFile, OSError, ValueError):
        return "torch"  # cut short: torch says so
    if "constants.pkl" in names:
        return "torchscript"
    if "data.pkl" in names:
        return "torch"
    if any(name.startswith("models/") or "/models/" in name for name in inside) and "archive_format" in names:
        return "exported"
    if "model.weights.h5" in names:
        return "keras"
    return "numpy" if names and all(name.endswith(".npy") for name in names) else "zip"


def check_folder_config(folder: Path, *, field: str) -> dict[str, Any]:
    """A folder's config.json, if it is timm's; raises TeacherError saying whose it is."""
    if not (folder / "config.json").is_file():
        raise TeacherError(_without_config(folder), field=field)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TeacherError(f"{folder}/config.json cannot be read: {error}", field=field) from None
    if not isinstance(config, dict):
        raise TeacherError(f"{folder}/config.json is not timm's: it holds no mapping", field=field)
    if "pretrained_cfg" not in config and ("model_type" in config or "architectures" in config):
        raise TeacherError(describe_transformers(str(folder), config), field=field)
    return config


def describe_transformers(name: str, config: dict[str, Any]) -> str:
    """Why a network of the transformers library is no teacher, and what to do."""
    kinds = config.get("architectures")
    kind = str(kinds[0] if isinstance(kinds, list) and kinds else config.get("model_type"))[:80]
    if config.get("model_type") in FAMILIES:
        return (
            f"{name} is an encoder of texts ({kind}), and no network of images: it is a teacher of texts as it is, or "
            f"once it is fine-tuned on them: archsearch train-teacher --from {name} --data texts.csv --out teacher"
        )
    if is_image_network(config):
        return (
            f"{name} is a network of the transformers library ({kind}), which is a teacher as it is, or with "
            "teacher.head probe where it knows other classes; fine-tuned is what timm has: for that take the same "
            "architecture from timm: archsearch train-teacher --pretrained NAME --data DATA --out teacher"
        )
    return (
        f"{name} is a network of the transformers library ({kind}), whose layers timm does not have; take the same "
        f"architecture from timm and fine-tune it on your data: archsearch train-teacher --pretrained NAME --data DATA "
        "--out teacher"
    )


def refuse_file_name(name: str, *, field: str) -> None:
    """Raise InvalidRequest for a file's, a hub repository's or torchvision's name where a timm model's belongs."""
    _, dot, suffix = name.rpartition(".")
    if suffix.lower() == "onnx":
        raise InvalidRequest(
            f"{name} is a file's name and no timm model's; an ONNX file is a teacher as it is: give its path where "
            "it is, or upload it and use kind 'onnx'",
            field=field,
        )
    if f"{dot}{suffix.lower()}" in SUFFIXES:
        raise InvalidRequest(
            f"{name} is a file's name and no timm model's; run `archsearch convert {name} --out teacher` where it is, "
            "and give the folder it makes",
            field=field,
        )
    own = _of_torchvision(name)
    if own is not None:
        raise InvalidRequest(f"{name} is torchvision's name; timm's of the same architecture is {own}", field=field)
    if "/" in name and ":" not in name:
        raise InvalidRequest(
            f"{name} is no timm model; if it is a repository on the hub say hf-hub:{name}, if a folder, it is not here",
            field=field,
        )


def _of_torchvision(name: str) -> str | None:
    """timm's name for a network by torchvision's, where they differ or the name says whose it is."""
    bare = re.sub(r"^torchvision(?:[./:]models)?[./:]", "", name)
    weights = re.fullmatch(r"(\w+)_Weights(?:\.\w+)?", bare)
    bare = weights[1].lower() if weights else bare
    if bare in _TORCHVISION:
        return _TORCHVISION[bare]
    return f"{bare}.tv_in1k" if bare != name and re.match(r"resnet|resnext|wide_resnet|densenet|vgg", bare) else None


def _without_config(folder: Path) -> str:
    found = weights_in(folder)
    if (folder / "saved_model.pb").is_file():
        return f"{folder} is {_OTHERS['keras']}"
    if found:
        return (
            f"{folder} has weights ({found[0].name}) but no config.json that says of which network; run "
            f"`archsearch convert {found[0]} --out teacher`"
        )
    return f"{folder} needs config.json and model.safetensors, as timm saves them; it has {_listing(folder)}"


def weights_in(folder: Path) -> list[Path]:
    """Files that look like weights, by name."""
    taken = {".safetensors", ".bin", ".pth", ".pt", ".ckpt"}
    return sorted(path for path in folder.iterdir() if path.suffix in taken and path.is_file())


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return (", ".join(names[:3]) + (", …" if len(names) > 3 else "")) if names else "nothing in it"
