"""The student as a folder timm loads: weights as safetensors and their configuration."""

from __future__ import annotations

import importlib.resources
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.device import on_cpu
from archsearch.domains.images.preprocessing import Preprocessing
from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.export.files import ARCHIVE, CONFIG, PREPROCESSING, PROGRAM, PUBLIC, WEIGHTS
from archsearch.request import Fit
from archsearch.whole import write_whole

if TYPE_CHECKING:
    from torch import nn

# What transformers' configurations call a task in which every label is a question of its own.
MULTILABEL = "multi_label_classification"
_CROP_MODES: Mapping[Fit, str] = {"crop": "center", "pad": "border", "stretch": "squash"}
_FITS = {mode: fit for fit, mode in _CROP_MODES.items()}


def save_student(student: nn.Module, task: ImageTask, folder: Path) -> None:
    """Write `model.safetensors` and `config.json`, the way `timm.create_model("local-dir:…", pretrained=True)` reads.

    timm would hand down the stock configuration's origin, normalisation and licence; all of that is overwritten, for
    these weights have another story.
    """
    import torch
    from timm.models import save_for_hf

    folder.mkdir(parents=True, exist_ok=True)
    data_config = {
        "input_size": (task.in_chans, task.height, task.width),
        "mean": task.mean,
        "std": task.std,
        # What comes nearest in timm's own words to what `domains/images/photo.py` does.
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": _CROP_MODES[task.fit],
    }
    config = {
        "pretrained_cfg": {"tag": "archsearch", "license": "other", "num_classes": task.classes, **_NO_ORIGIN},
        "label_names": list(task.class_names) or None,
        **({"problem_type": MULTILABEL} if task.kind == "multilabel" else {}),
        # What it is judged by follows from them.
        **({"label_shares": list(task.prevalence)} if task.uneven else {}),
    }
    # Training leaves the weights channels-last; safetensors keeps plain order only.
    student = on_cpu(student).to(memory_format=torch.contiguous_format)
    save_for_hf(student, str(folder), model_config=config, safe_serialization=True, data_config=data_config)
    # timm keeps what a stock configuration says of its origin even when told nothing; these weights have none of it.
    path = folder / CONFIG
    written = json.loads(path.read_text())
    kept = {key: value for key, value in written["pretrained_cfg"].items() if key not in _NO_ORIGIN}
    write_whole(path, json.dumps({**written, "pretrained_cfg": kept}, indent=2) + "\n")
    write_reading(folder, task)


def write_reading(folder: Path, task: ImageTask) -> None:
    """Write how photos are read: `preprocessing.json`, and `predict.py`, word for word `domains/images/photo.py`."""
    fields = Preprocessing.of(task).fields()
    write_whole(folder / PREPROCESSING, json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    program = importlib.resources.files("archsearch.domains.images") / "photo.py"
    write_whole(folder / PROGRAM, program.read_text(encoding="utf-8"))


def load_student(folder: Path | str) -> nn.Module:
    """The student of an exported folder, in eval mode; what plain timm does for stock families.

    Raises:
        InvalidRequest: timm does not know the network, or its weights are not those of the network.
    """
    import timm
    from safetensors import SafetensorError

    import archsearch.models  # noqa: F401  (registers with timm)

    try:
        student: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    # No such network, arguments it does not take, or weights that are damaged or another network's.
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError, SafetensorError) as error:
        first_line = next(iter(str(error).splitlines()), "")
        raise InvalidRequest(
            f"{folder} holds no student timm can load ({type(error).__name__}: {first_line}); its {CONFIG} and "
            f"{WEIGHTS} have to be of one network",
            field="folder",
        ) from error
    return student.eval()


def load_config(folder: Path | str) -> dict[str, Any]:
    """The folder's `config.json`: architecture, arguments, input size, mean and std."""
    config: dict[str, Any] = json.loads((Path(folder) / CONFIG).read_text())
    return config


def load_task(folder: Path | str) -> ImageTask:
    """The task a folder's student was made for, as far as its configuration tells; raises InvalidRequest otherwise."""
    require_student(Path(folder))
    try:
        config = load_config(folder)
        pretrained = config["pretrained_cfg"]
        in_chans, height, width = pretrained["input_size"]
        task = ImageTask(
            classes=config["num_classes"],
            in_chans=in_chans,
            height=height,
            width=width,
            mean=tuple(pretrained["mean"]),
            std=tuple(pretrained["std"]),
            class_names=_names(config.get("label_names")),
            kind="multilabel" if config.get("problem_type") == MULTILABEL else "classification",
            prevalence=tuple(map(float, config.get("label_shares", ()))),
            fit=fit_of(config),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{folder}/{CONFIG} is not one timm wrote: {error!r}", field="folder") from None
    if not len(task.mean) == len(task.std) == task.in_chans:
        raise InvalidRequest(
            f"{folder}/{CONFIG} has {len(task.mean)} means for {task.in_chans} channels; correct pretrained_cfg.mean "
            "and std",
            field="folder",
        )
    return task


def fit_of(config: Mapping[str, Any]) -> Fit:
    """How a configuration says that images of another shape are made to fit."""
    return _FITS.get(config["pretrained_cfg"].get("crop_mode"), "crop")


def require_student(folder: Path) -> None:
    """Raise InvalidRequest unless the folder holds weights and configuration."""
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise InvalidRequest(
            f"{folder} has no {' and no '.join(missing)}; give a folder that archsearch or timm saved", field="folder"
        )


def read_json(path: Path) -> dict[str, Any]:
    """What a student's JSON file holds; empty where there is none. Raises InvalidRequest where it is damaged."""
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequest(f"{path} is damaged ({error}); remove it, or make it again", field="folder") from None
    return found


def public_files(folder: Path) -> Iterator[Path]:
    """The folder's files that may leave it, weights first."""
    return (folder / name for name in PUBLIC if (folder / name).is_file())


def last_part(path: str) -> str:
    """The name at the end of a path of any system: its folders help nobody elsewhere, and tell who lives here."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def pack(folder: Path) -> Path:
    """Put the folder's files into `student.zip` beside them; weights do not compress, so nothing is compressed."""
    archive = folder / ARCHIVE
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for path in public_files(folder):
            out.write(path, f"student/{path.name}")
    return archive


def _names(labels: Any) -> tuple[str, ...]:
    """Names of the classes from what timm keeps: a list, or a mapping from their numbers."""
    if isinstance(labels, dict):
        return tuple(str(labels[number]) for number in sorted(labels, key=int))
    return tuple(map(str, labels or ()))


_NO_ORIGIN = {
    "url": "", "file": None, "hf_hub_id": None, "hf_hub_filename": None, "paper_ids": None, "paper_name": None,
    "origin_url": None, "notes": None, "description": None, "test_input_size": None, "min_input_size": None,
    # What another head's outputs were called: these are the data's, or nothing is known of them.
    "label_names": None, "label_descriptions": None, "label_offset": None,
}  # fmt: skip
