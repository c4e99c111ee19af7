"""A folder a teacher is read from, as timm saves one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsearch.errors import TeacherError
from archsearch.teachers.convert import describe_checkpoint
from archsearch.teachers.foreign import check_folder_config, describe_bytes, kind_of, weights_in


def check_folder(folder: Path, *, field: str) -> dict[str, Any]:
    """The config.json of a folder timm saved; raises TeacherError saying what else the folder or file is."""
    if not folder.exists():
        raise TeacherError(f"{folder} is not there", field=field)
    if folder.is_file():
        raise TeacherError(_describe_file(folder), field=field)
    config = check_folder_config(folder, field=field)
    if not (folder / "model.safetensors").is_file():
        raise TeacherError(_without_weights(folder), field=field)
    return config


def _describe_file(path: Path) -> str:
    kind = kind_of(path)
    if kind not in ("safetensors", "torch", "pickle"):
        return f"{path} is {describe_bytes(kind)}"
    return describe_checkpoint(path)


def _without_weights(folder: Path) -> str:
    found = weights_in(folder)
    if found:
        return (
            f"{folder} needs config.json and model.safetensors; its weights are in {found[0].name}: run "
            f"`archsearch convert {found[0]} --out teacher`"
        )
    return f"{folder} needs config.json and model.safetensors; it has no weights"
