"""`manifest.json`: what makes the student again, and what its files are."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsearch.export.card import write_card
from archsearch.export.files import FILES, MANIFEST, PT2, WEIGHTS
from archsearch.export.folder import read_json
from archsearch.spaces import Recipe
from archsearch.whole import write_whole

_PACKAGES = (
    "archsearch", "torch", "torchvision", "timm", "transformers", "tokenizers", "optuna", "numpy", "safetensors",
    "onnx", "onnxscript", "onnxruntime",
)  # fmt: skip


def write_manifest(folder: Path, story: Mapping[str, Any], model: Recipe) -> Path:
    """Write `manifest.json` and, beside a student, the card that says the same to people; returns the manifest.

    As a request file it makes the student again: `archsearch distill --request manifest.json --out again`.

    Args:
        folder: Where everything else already is: every file is named with its size and hash.
        story: The request, and what came of it.
        model: What the student's library builds it from.
    """
    needs = (
        model.zoo
        if model.stock
        else f"timm and archsearch (`import archsearch.models` names its network to timm); {PT2} needs torch alone"
    )
    manifest = {
        **story,
        "loads_with": needs,
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": _machine(story),
        "seconds": _seconds(story),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder; empty where there is none, as in a folder timm saved."""
    return read_json(folder / MANIFEST)


def refresh(folder: Path) -> None:
    """Bring the card, and the manifest if there is one, up to date with the folder's files."""
    manifest = read_manifest(folder)
    if manifest and not _of_search(manifest):
        _write(folder, manifest)
    else:
        write_card(folder, {})


def _write(folder: Path, manifest: Mapping[str, Any]) -> Path:
    # As it will be read again, so that a card written from it later is the same card.
    manifest = json.loads(json.dumps(manifest, sort_keys=True, default=str))
    # A search makes no student: one that lies there is an earlier one's, whose card is not this manifest's to write.
    ours = not _of_search(manifest)
    if ours and (folder / WEIGHTS).is_file():
        write_card(folder, manifest)
    files = {name: _describe(folder / name) for name in FILES if ours and (folder / name).is_file()}
    path = folder / MANIFEST
    write_whole(path, json.dumps({**manifest, "files": files}, indent=2, sort_keys=True) + "\n")
    return path


def _of_search(manifest: Mapping[str, Any]) -> bool:
    """Whether it tells of a search alone."""
    return "search" in manifest and "student" not in manifest


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _seconds(story: Mapping[str, Any]) -> dict[str, float]:
    """Wall time of each phase there was."""
    student = story.get("student", {})
    phases = {"search": story.get("search", {}), "distill": student, "export": student.get("export", {})}
    return {name: phase["seconds"] for name, phase in phases.items() if "seconds" in phase}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one
    return found


def _machine(story: Mapping[str, Any]) -> dict[str, Any]:
    """Where the student was trained; its numbers may differ in the last digits elsewhere."""
    import torch

    from archsearch.hardware.latency import describe_machine

    found = describe_machine()
    return {
        "device": story.get("student", {}).get("device", "cpu"),
        **_elsewhere(story),
        "processor": found["processor"],
        "system": platform.system(),
        "threads": torch.get_num_threads(),
        **_precision(story),
    }


def _elsewhere(story: Mapping[str, Any]) -> dict[str, str]:
    """Where the other phases were computed, if not where the student was trained."""
    student = story.get("student", {})
    found = {
        "search": story.get("search", {}),
        "teacher": story.get("teacher", {}),
        "export": student.get("export", {}),
    }
    told = {phase: one["device"] for phase, one in found.items() if isinstance(one, dict) and "device" in one}
    return {f"{phase}_device": where for phase, where in told.items() if where != student.get("device", "cpu")}


def _precision(story: Mapping[str, Any]) -> dict[str, str]:
    """What `auto` meant on this machine, for each phase that had a precision to choose."""
    from archsearch.precision import resolve

    request = story.get("request", {})
    student = story.get("student", {})
    phases = {"search": story.get("search", {}).get("device", "cpu"), "distill": student.get("device", "cpu")}
    found: dict[str, str] = {
        f"{phase}_precision": resolve(request[phase]["precision"], where)
        for phase, where in phases.items()
        if "precision" in request.get(phase, {})
    }
    recipe = student.get("recipe", {})
    # fp32 where half precision was given up, or was measured to be slower.
    told = {f"distill_{name}": recipe.get(name) for name in ("precision", "precision_why")}
    return {**found, **{name: value for name, value in told.items() if value}}
