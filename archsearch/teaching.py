"""A teacher of one's own: a network trained on the labels alone, in this process, and saved as its library does."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from archsearch import data, domains
from archsearch.device import checked, resolve
from archsearch.domains.domain import Pace
from archsearch.errors import InvalidRequest
from archsearch.ledger.folder import Listener
from archsearch.local import check_apart, loading
from archsearch.outfolder import FIX, TRAINING, WORK, begin, claimed
from archsearch.request import (
    DataSpec,
    Device,
    DistillSpec,
    first_error,
)
from archsearch.settings import user_cache
from archsearch.whole import write_whole


def train_teacher(
    source: Mapping[str, Any],
    out: Path | str,
    *,
    model: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    pretrained: bool | str | Path = False,
    input_size: int | Sequence[int] | None = None,
    spec: Mapping[str, Any] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Train a network on the labels alone and save it in `out`, as its library does.

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
            leaves open are those of a fine-tuning: of images AdamW at 3e-4, 1,000 steps in 5 to 30 epochs; of texts
            1e-4, batches of 32, 600 steps in 3 to 30 epochs.
        device: Where all of it is computed: `auto`, `cpu`, `cuda` or `cuda:1`.
        overwrite: Take any folder; without it one with other files, or with another teacher, is refused.
        listener: Called with every report of the training.

    Returns:
        `selection_acc` and `test_acc` (`_map` with many labels, `_balanced_acc` too with uneven classes) in percent
        unless the task's metric has another unit, `judged_by` (key, name, unit and direction of
        what decides), `params`, `sha256`, `seconds`, and `warnings` (code and detail).
    """
    asked = TeacherTraining(
        data=_described(source),
        model=model,
        model_args=dict(model_args or {}),
        pretrained=pretrained if isinstance(pretrained, bool) else str(pretrained),
        input_size=_sides(input_size),
        distill=_teacher_recipe(spec, _pace(source) if pretrained else None),
        device=checked(device),
    )
    where = resolve(asked.training.device or "auto")
    if pretrained is True and model is None:
        raise InvalidRequest("of which network? give its name, a folder or a file", field="pretrained")
    out, tell = Path(out), listener or (lambda report: None)
    if isinstance(asked.pretrained, str):
        check_apart(asked.pretrained, out, "weights it begins with")
    parse, body = TeacherTraining.model_validate, asked.model_dump_json()
    with claimed(out, body, overwrite=overwrite, record=TRAINING, parse=parse) as made:
        dataset = loading(asked.data, tell)
        if dataset.task.truth == "teacher":
            raise InvalidRequest("a teacher learns from labels, and no example has one; label some", field="data")
        if made is not None:
            return _taught_before(made, dataset, out)
        begin(out / WORK, body, parse)
        result = {**_taught(asked, dataset, out, tell), "device": where}
        files = {path.name: {"bytes": path.stat().st_size} for path in sorted(out.iterdir()) if path.is_file()}
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
    device: Device = "auto"

    @property
    def training(self) -> DistillSpec:
        """The recipe, and where it is computed."""
        return self.distill.model_copy(update={"device": self.distill.device or self.device})


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

    from archsearch.data.metrics import measure_all
    from archsearch.distill.attempts import computed_in, fallback
    from archsearch.distill.train import device_of, logits, train
    from archsearch.teachers import fingerprint

    warnings = [asdict(note) for note in dataset.notes]
    for warning in warnings:
        tell({"phase": "training", "warning": warning})
    domain = domains.of(dataset.task)
    recipe = _tuned(asked.training, len(dataset.train), domain.pace) if asked.pretrained else asked.training
    started, scratch = time.monotonic(), out / WORK
    torch.manual_seed(recipe.seed)
    begun = domain.begin_teacher(asked, dataset, scratch)
    # Of labels alone is learned: images without add nothing, and are no reason to train longer.
    dataset, checkpoint = replace(begun.dataset, unlabelled=None), scratch / "checkpoint.safetensors"
    for warning in (asdict(note) for note in dataset.notes):  # what encoding found beside
        if warning not in warnings:
            warnings.append(warning)
            tell({"phase": "training", "warning": warning})
    kept: Any = {"checkpoint_path": checkpoint, "cache": user_cache() / "evidence"}
    course = None
    for course in train(begun.trained, dataset, recipe, teacher=None, optimizer=begun.optimizer, **kept):
        told_now = fallback(course, recipe)
        if told_now is not None and asdict(told_now) not in warnings:
            warnings.append(asdict(told_now))
            tell({"phase": "training", "warning": asdict(told_now)})
        tell({"phase": "training", **asdict(course), "progress": course.step / course.steps})
    begun.save(out)

    def worth(split: data.Split) -> Mapping[str, float]:
        return measure_all(domains.metrics(dataset.task), partial(logits, begun.trained, dataset.task), split)

    return {
        **{f"selection_{key}": value for key, value in worth(dataset.selection).items()},
        **{f"test_{key}": value for key, value in worth(dataset.test).items()},
        "judged_by": domains.judge(dataset.task).describe(),
        "params": sum(weight.numel() for weight in begun.trained.parameters()),
        "sha256": fingerprint(begun.named),
        "seconds": time.monotonic() - started,
        "precision": course.precision if course else computed_in(checkpoint, device_of(recipe)),
        "precision_why": course.precision_why if course else "",
        "told": begun.told,
        **begun.facts,
        "warnings": warnings,
    }


def _tuned(recipe: DistillSpec, images: int, pace: Pace) -> DistillSpec:
    """The recipe with batch and epochs of a fine-tuning, where it leaves them open."""
    from archsearch.distill.amount import amount, chosen

    batch_size = amount(chosen(recipe, images, pace).spec).batch_size
    if recipe.batch_size is None and pace.tuning_batch is not None:
        batch_size = min(batch_size, pace.tuning_batch)
        recipe = recipe.model_copy(update={"batch_size": batch_size})
    if recipe.epochs is not None:
        return recipe
    fewest, most = pace.tuning_epochs
    epochs = min(most, max(fewest, -(-pace.tuning_steps // max(1, images // batch_size))))
    return recipe.model_copy(update={"epochs": epochs})


def _teacher_recipe(spec: Mapping[str, Any] | None, tuning: Pace | None) -> DistillSpec:
    """The recipe, and what pretrained weights take where it leaves that open: a fraction of the rate a fresh network
    gets, or what they know is gone before the new head has learned anything."""
    given = {name: value for name, value in (spec or {}).items() if value is not None}
    usual = {} if tuning is None else {"optimizer": "adamw", "lr": tuning.tuning_lr}
    try:
        recipe = DistillSpec.model_validate({**usual, **given, "method": "none"})
    except ValidationError as error:
        field, detail = first_error(error)
        raise InvalidRequest(detail, field=field or None) from None
    if recipe.devices > 1:
        raise InvalidRequest("a teacher is trained by one process; leave devices out", field="devices")
    return recipe


def _pace(source: Mapping[str, Any]) -> Pace:
    """Of the domain that reads such data."""
    name = domains.DATA.get(str(source.get("kind")))
    return Pace() if name is None else domains.get(name).pace


def _described(source: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter[Any](DataSpec).validate_python(dict(source))
    except ValidationError as error:
        field, detail = first_error(error)
        raise InvalidRequest(detail, field=field or None) from None


def _sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and 4 <= side <= 1024 for side in sides):
        raise InvalidRequest("a side of 4 to 1024 pixels, or height and width", field="input_size")
    return sides[0], sides[1]
