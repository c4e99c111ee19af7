"""Teachers' folders as people have them, made of one that knows something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.models import save_for_hf

from archsearch.teachers import ImageTeacher, build


def bare_folder(teacher: ImageTeacher, folder: Path, *, classes: int = 0) -> Path:
    """The network of a teacher without its head, or with an untrained one for so many classes, as timm saves it."""
    own: Any = teacher.model
    args = {"depths": [1, 1, 1], "widths": [16, 24, 32]}
    model = build("cifar_resnet", {"num_classes": classes, "in_chans": teacher.in_chans, **args})
    kept = {name: value for name, value in own.state_dict().items() if not name.startswith("fc.")}
    model.load_state_dict({**model.state_dict(), **kept})
    shown = {"input_size": (teacher.in_chans, 8, 8), "mean": teacher.mean, "std": teacher.std, "crop_pct": 1.0}
    config = {"model_args": args, "pretrained_cfg": {"num_classes": classes}}
    save_for_hf(model, str(folder), model_config=config, data_config=shown, safe_serialization=True)
    return folder
