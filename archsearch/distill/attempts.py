"""What a training is of, and what it becomes where half precision fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.data.notes import Note
from archsearch.data.task import Dataset
from archsearch.distill import checkpoint
from archsearch.distill.objective import class_weights, objective
from archsearch.distill.progress import Progress
from archsearch.precision import Computed, resolve
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, fingerprint

if TYPE_CHECKING:
    from torch import nn

FALLBACK = "fp32_instead"
log = logging.getLogger(__name__)


def attempts_of(
    spec: DistillSpec, device: str, path: Path | None, identity: Callable[[DistillSpec], str]
) -> Sequence[DistillSpec]:
    """The training as it is asked for, and in fp32 where half precision fails; the latter alone where it is there."""
    exact = spec.model_copy(update={"precision": "fp32"})
    wanted = [spec] if resolve(spec.precision, device) == "fp32" else [spec, exact]
    kept = None if path is None else checkpoint.identity(path)
    if kept == identity(wanted[-1]):
        return wanted[-1:]
    if kept is not None and kept != identity(spec):
        log.warning("%s is of a training with other settings, data or weights: this one starts anew", path)
    return wanted


def identity_of(
    student: nn.Module, dataset: Dataset, spec: DistillSpec, teacher: Teacher | None, optimizer: str
) -> str:
    """What a checkpoint has to be of to be gone on from."""
    # What leaves the numbers alone is left out, so that a checkpoint outlives it; class weights, where none apply.
    # How the weights came about that it begins with, the weights themselves tell.
    without = {"seeds", "baseline", "view_cache", "init", "repair"}
    without |= {
        name for name in ("labelled_share", "views", "mixup", "cutmix") if getattr(spec, name) is None
    }  # newer than what is kept
    if class_weights(spec, dataset.task) is None:
        without.add("class_weights")
    # A device that is left open was called so before a request could say where it is computed.
    settings = spec.model_copy(update={"device": spec.device or "auto"}).model_dump_json(exclude=without)
    asked = "" if teacher is None or not objective(spec, dataset.task).reads else teacher.sha256
    if asked and teacher is not None and teacher.order is not None:
        asked = f"{asked} {teacher.order}"
    return "|".join((settings, optimizer, dataset.sha256, asked, fingerprint(student)))


def fallback(last: Progress, spec: DistillSpec) -> Note | None:
    """What to tell the user where a training goes on in fp32 though it was to be in half precision."""
    half = last.precision_wanted
    if half is None or last.precision == half:
        return None
    why = f"in {half}, which was asked for," if spec.precision != "auto" else f"in {half}"
    return Note(
        FALLBACK,
        f"{why} the training diverged however gently it went on; it began again in fp32, which is slower. With "
        "distill.precision=fp32 it begins so at once",
    )


def computed_in(path: Path, device: str) -> Computed | None:
    """What a training computed in that left its checkpoint here; None where there is none that can be read."""
    found = checkpoint.identity(path)
    if found is None:
        return None
    with suppress(ValueError, KeyError):
        return resolve(DistillSpec.model_validate(json.JSONDecoder().raw_decode(found)[0]).precision, device)
    return None
