"""The whole job in this process, with files instead of a service: for Python and the shell."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from archsearch import data, domains, export, progress, story
from archsearch.errors import InvalidRequest
from archsearch.hardware.profile import Profile, read_profile
from archsearch.ledger.folder import FolderLedger, Listener
from archsearch.outfolder import FIX, TRAINING, WORK, begin, claimed
from archsearch.request import (
    DatasetData,
    DataSpec,
    DistillSpec,
    JobRequest,
    LocalTeacher,
    OfJob,
    RegisteredTeacher,
    first_error,
    parse_request,
)
from archsearch.result import Result
from archsearch.story import Opened, Story
from archsearch.teachers import Teacher, at_best_size, load_teacher
from archsearch.whole import write_whole

log = logging.getLogger(__name__)


def run(
    request: JobRequest | Mapping[str, Any],
    out: Path | str,
    *,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Result:
    """Do what a job does, here and now, and leave the student in `out`.

    Interrupted, and called again with the same request and folder, it goes on: candidates are not scored twice and
    training continues from its checkpoint. Called once more when all is done, it gives back what was made.

    Args:
        request: A `JobRequest`, or the plain data of one. Local paths are welcome, a service's ids are not.
        out: Folder for the student; `.work` inside it keeps what a later run continues from, and goes when it is done.
            A folder with other files, or with what another request made, is refused.
        overwrite: Take any folder.
        listener: Called with every report: the phase, and what there is to say of it; where that is a warning, under
            `warning` its code and detail. Without one a bar is drawn, on a terminal and in a notebook.

    Returns:
        The same result a service's job has: teacher, search, student and data, with `warnings` (code and detail) and
        `degraded`, which is True where the student is hardly one.
    """
    request = request if isinstance(request, JobRequest) else parse_request(request)
    out = Path(out)
    if isinstance(request.teacher, LocalTeacher):
        _check_apart(request.teacher.path, out, "teacher")
    with claimed(out, request.model_dump_json(), overwrite=overwrite) as made, progress.shown(listener) as tell:
        return _run(request, out, tell, made)


def _check_apart(source: Path | str, out: Path, what: str) -> None:
    """Raise where a run would write over what it begins with."""
    path = Path(source)
    if (path.parent if path.is_file() else path).resolve() == out.resolve():
        raise InvalidRequest(f"{out} holds the {what}; choose another folder", field="out")


def _run(request: JobRequest, out: Path, tell: Listener, made: Mapping[str, Any] | None) -> Result:
    dataset = _data(request, tell)
    teacher = _teacher(request, dataset.task)
    if made is not None:
        if (made["data"]["sha256"], made["teacher"]["sha256"]) != (dataset.sha256, teacher.sha256):
            raise InvalidRequest(
                f"{out} was made by the same request of another teacher or other data, which have changed since; {FIX}",
                field="out",
            )
        return cast(Result, {name: made[name] for name in Result.__annotations__ if name in made})
    ledger = FolderLedger(out, request, tell)
    opened = Opened(at_best_size(teacher, dataset), dataset, _profile(request))
    result = story.tell(Story(request, ledger, lambda: opened), ledger.once)
    shutil.rmtree(ledger.folder, ignore_errors=True)
    return cast(Result, result)


def _data(request: JobRequest, listener: Listener) -> data.Dataset:
    if request.student is not None and request.student.job is not None:
        raise InvalidRequest(f"{request.student.job} lives in a service; give space and architecture", field="student")
    if isinstance(request.data, DatasetData):
        raise InvalidRequest(f"{request.data.id} lives in a service; name a local npz or image_folder", field="data")
    assert not isinstance(request.data, OfJob)  # only a student of a service's job goes with it
    return domains.load(request.data, listener=_reading(listener))


def _reading(listener: Listener) -> Callable[[int, int], None]:
    """Reading images, told as any phase is."""
    return lambda done, of: listener({"phase": "reading", "read": done, "of": of, "progress": done / of})


def _profile(request: JobRequest) -> Profile | None:
    """The profile a budget names by its file."""
    device = request.budget.device
    if device.startswith("prf_"):
        raise InvalidRequest(f"{device} lives in a service; name a profile's file", field="budget.device")
    if device.endswith(".json"):
        return read_profile(Path(device))
    return None


def _teacher(request: JobRequest, task: data.Task) -> Teacher:
    if isinstance(request.teacher, RegisteredTeacher):
        raise InvalidRequest(f"{request.teacher.id} lives in a service; give a timm name or a folder", field="teacher")
    assert not isinstance(request.teacher, OfJob)
    return load_teacher(request.teacher, task=task)


def train_teacher(
    source: Mapping[str, Any],
    out: Path | str,
    *,
    model: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    pretrained: bool | str | Path = False,
    input_size: int | Sequence[int] | None = None,
    spec: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Train a timm model on the labels alone and save it in `out`, as timm does.

    Interrupted, and called again with the same arguments, it goes on from its checkpoint; called once more when all is
    done, it gives back what was told then, which `training.json` keeps.

    Args:
        source: The data, as a request names it: `{"kind": "digits"}`, `{"kind": "image_folder", "path": …,
            "image_size": 224}`.
        model: timm model name; it gets the data's classes and channels. `cifar_resnet` where nothing is said.
        model_args: Further arguments of `timm.create_model`.
        pretrained: Start from trained weights, with a new head: True takes timm's own of `model` from the hub, a string
            is a timm model name, `hf-hub:owner/name`, a folder as timm saves it, or a file of weights.
        input_size: Pixels the network is shown, where they are others than the data's: a side, or height and width.
        spec: Fields of a `DistillSpec`; the method is `none`. With pretrained weights the rate and the epochs that it
            leaves open are those of a fine-tuning: AdamW at 3e-4, 1,000 steps in 5 to 30 epochs.
        overwrite: Take any folder; without it one with other files, or with another teacher, is refused.
        listener: Called with every report of the training.

    Returns:
        `selection_acc` and `test_acc` (`_map` with many labels, `_balanced_acc` too with uneven classes) in percent,
        `params`, `sha256`, `seconds`, and `warnings` (code and detail).
    """
    asked = TeacherTraining(
        data=_described(source),
        model=model,
        model_args=dict(model_args or {}),
        pretrained=pretrained if isinstance(pretrained, bool) else str(pretrained),
        input_size=_sides(input_size),
        distill=_teacher_recipe(spec, bool(pretrained)),
    )
    if pretrained is True and model is None:
        raise InvalidRequest("of which network? give its name, a folder or a file", field="pretrained")
    out, tell = Path(out), listener or (lambda report: None)
    if isinstance(asked.pretrained, str):
        _check_apart(asked.pretrained, out, "weights it begins with")
    parse, body = TeacherTraining.model_validate, asked.model_dump_json()
    with claimed(out, body, overwrite=overwrite, record=TRAINING, parse=parse) as made:
        dataset = domains.load(asked.data, listener=_reading(tell))
        if made is not None:
            return _taught_before(made, dataset, out)
        begin(out / WORK, body, parse)
        result = _taught(asked, dataset, out, tell)
        files = {name: {"bytes": (out / name).stat().st_size} for name in _TEACHER_FILES}
        record = {"request": asked.model_dump(mode="json"), "data": dataset.sha256, "result": result, "files": files}
        write_whole(out / TRAINING, json.dumps(record, indent=2) + "\n")
        shutil.rmtree(out / WORK, ignore_errors=True)
        return result


class TeacherTraining(BaseModel):
    """What a teacher's training was asked to be."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    data: DataSpec
    model: str | None = None
    model_args: dict[str, Any] = Field(default_factory=dict)
    pretrained: bool | str = False
    input_size: tuple[int, int] | None = None
    distill: DistillSpec


_TEACHER_FILES = ("model.safetensors", "config.json", "preprocessing.json", "predict.py")


def _taught_before(made: Mapping[str, Any], dataset: data.Dataset, out: Path) -> dict[str, Any]:
    """What the finished training told, where its data are still the same and its files are still there."""
    if made["data"] != dataset.sha256:
        raise InvalidRequest(f"{out} was made of other data, which have changed since; {FIX}", field="out")
    gone = [name for name in made["files"] if not (out / name).is_file()]
    if gone:
        raise InvalidRequest(f"{out} has lost {', '.join(gone)}; {FIX}", field="out")
    return dict(made["result"])


def _taught(asked: TeacherTraining, dataset: data.Dataset, out: Path, tell: Listener) -> dict[str, Any]:
    """Train and save; returns what the teacher turned out to be."""
    import torch

    from archsearch.data.metrics import Key, answers, scores
    from archsearch.distill.attempts import fallback
    from archsearch.distill.train import device_of, logits, train
    from archsearch.teachers import fingerprint
    from archsearch.teachers.pretrained import resized

    warnings = [asdict(note) for note in dataset.notes]
    for warning in warnings:
        tell({"phase": "training", "warning": warning})
    recipe = _tuned(asked.distill, len(dataset.train)) if asked.pretrained else asked.distill
    started, scratch = time.monotonic(), out / WORK
    input_hw = asked.input_size or (dataset.task.height, dataset.task.width)
    torch.manual_seed(recipe.seed)
    teacher, task, told = _beginner(dataset.task, asked.model, asked.model_args, asked.pretrained, input_hw, scratch)
    shown = teacher if input_hw == (task.height, task.width) else resized(teacher, input_hw)
    dataset = replace(dataset, task=task)
    checkpoint, optimizer = scratch / "checkpoint.safetensors", _optimizer_of(teacher)
    for course in train(shown, dataset, recipe, teacher=None, optimizer=optimizer, checkpoint_path=checkpoint):
        told_now = fallback(course, recipe, device_of(recipe))
        if told_now is not None and asdict(told_now) not in warnings:
            warnings.append(asdict(told_now))
            tell({"phase": "training", "warning": asdict(told_now)})
        tell({"phase": "training", **asdict(course), "progress": course.step / course.steps})
    export.save_student(teacher, replace(task, height=input_hw[0], width=input_hw[1]), out)

    def worth(split: data.Split) -> Mapping[Key, float]:
        return scores(answers(partial(logits, shown, task), split), split.y_N, task)

    return {
        **{f"selection_{key}": value for key, value in worth(dataset.selection).items()},
        **{f"test_{key}": value for key, value in worth(dataset.test).items()},
        "params": sum(weight.numel() for weight in teacher.parameters()),
        "sha256": fingerprint(teacher),
        "seconds": time.monotonic() - started,
        "told": told,
        "input_size": list(input_hw),
        "warnings": warnings,
    }


# Defaults that pretrained weights take: a third of the rate a fresh network gets, or what they know is gone before the
# new head has learned anything; and a quarter of the steps, for they begin near the end.
FINE_TUNING: Mapping[str, Any] = {"optimizer": "adamw", "lr": 3e-4}
_TUNING_STEPS, _FEWEST_TUNING_EPOCHS, _MOST_TUNING_EPOCHS = 1000, 5, 30


def _tuned(recipe: DistillSpec, images: int) -> DistillSpec:
    """The recipe with the epochs of a fine-tuning, where it leaves them open."""
    from archsearch.distill.amount import amount, chosen

    if recipe.epochs is not None:
        return recipe
    an_epoch = max(1, images // amount(chosen(recipe, images).spec).batch_size)
    epochs = min(_MOST_TUNING_EPOCHS, max(_FEWEST_TUNING_EPOCHS, -(-_TUNING_STEPS // an_epoch)))
    return recipe.model_copy(update={"epochs": epochs})


def _teacher_recipe(spec: Mapping[str, Any] | None, fine_tuned: bool) -> DistillSpec:
    given = {name: value for name, value in (spec or {}).items() if value is not None}
    try:
        recipe = DistillSpec.model_validate({**(FINE_TUNING if fine_tuned else {}), **given, "method": "none"})
    except ValidationError as error:
        field, detail = first_error(error)
        raise InvalidRequest(detail, field=field or None) from None
    if recipe.devices > 1:
        raise InvalidRequest("a teacher is trained by one process; leave devices out", field="devices")
    return recipe


def _described(source: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter[Any](DataSpec).validate_python(dict(source))
    except ValidationError as error:
        field, detail = first_error(error)
        raise InvalidRequest(detail, field=field or None) from None


def _beginner(
    task: data.Task,
    model: str | None,
    model_args: Mapping[str, Any] | None,
    pretrained: bool | str,
    input_hw: tuple[int, int],
    scratch: Path,
) -> tuple[Any, data.Task, str]:
    """The network a teacher's training begins with, the task as it is shown images, and what it is, in a sentence."""
    from archsearch.teachers import build
    from archsearch.teachers.pretrained import load_pretrained

    if not pretrained:
        name = model or "cifar_resnet"
        args = {"num_classes": task.classes, "in_chans": task.in_chans, **(model_args or {})}
        return build(name, args), task, f"{name}, untrained"
    named = str(model if pretrained is True else pretrained)
    found = load_pretrained(
        named, task, scratch / "pretrained", input_hw=input_hw, architecture=model, model_args=model_args
    )
    return found.model, replace(task, mean=found.mean, std=found.std), found.told


def _optimizer_of(model: Any) -> Literal["sgd", "adamw"]:
    """What a network learns best with: transformers and their kin, which have no batch norm, with AdamW."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return "sgd" if any(isinstance(module, _BatchNorm) for module in model.modules()) else "adamw"


def _sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and 4 <= side <= 1024 for side in sides):
        raise InvalidRequest("a side of 4 to 1024 pixels, or height and width", field="input_size")
    return sides[0], sides[1]
