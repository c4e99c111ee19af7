"""The student is trained on its teacher, once or with several seeds, and without the teacher to compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.metrics import measure_all
from archsearch.data.task import Dataset, Task
from archsearch.distill.amount import amount
from archsearch.distill.attempts import computed_in, fallback
from archsearch.distill.begun import begun
from archsearch.distill.method import settle
from archsearch.distill.objective import objective
from archsearch.distill.schedule import gentle, usual_lr
from archsearch.distill.together import train_together
from archsearch.distill.train import device_of, logits, train
from archsearch.errors import TrainingError
from archsearch.ledger.ledger import Report
from archsearch.request import DistillSpec
from archsearch.story.story import Story, Student, alive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.distill.progress import Progress

# What makes of a distillation the training it has to beat.
WITHOUT_TEACHER = {"method": "none", "losses": None, "labels": None, "temperature": None, "alpha": None}


def distil(story: Story, chosen: Mapping[str, Any]) -> Report:
    """Train one architecture to the end and save it as a folder timm loads; checkpoints lie in the ledger's folder.

    Several seeds are trained one after the other, and the best on the selection split is the student; so is, where the
    request asks for it, the same network without a teacher, for comparison.

    Args:
        chosen: Space and architecture.
    """
    student, ledger = story.student(chosen["space"], chosen["architecture"]), story.ledger
    dataset, place = student.read(story.dataset), ledger.new_student()
    spec, task = gentle(story.request.training, student.space.start, student.learns_by), dataset.task
    method, domain, judge = settle(spec, task), domains.of(task), domains.judge(task)
    runs = _trainings(spec, method.spec)
    found: dict[str, Mapping[str, float]] = {}
    reached: dict[str, float] = {}
    failed: dict[str, str] = {}
    recipes: dict[str, Report] = {}
    for i, (role, one) in enumerate(runs):
        name = str(one.seed) if role == "student" else role
        try:
            model, recipes[name] = _train(story, student, dataset, one, role, i, len(runs))
            found[name] = _selection_scores(story, model, dataset)
        except TrainingError as error:  # one of several does not take the others along
            failed[name] = str(error)
            if len(runs) == 1 or (role == "student" and i + 1 == spec.seeds and not reached):
                raise
            continue
        if role == "baseline":
            domain.save(model, task, ledger.folder / "baseline", story.teacher)
            continue
        reached[name] = found[name][judge.key]
        if judge.best(reached) == name:  # of equals the first
            domain.save(model, task, ledger.path(place), story.teacher)
    best = judge.best(reached)
    return {
        "method": method.name,
        "why": method.why,
        **objective(method.spec, task).describe(),
        "epochs": spec.epochs,
        "recipe": recipes[best],
        "seed": int(best),
        **{f"selection_{key}": value for key, value in found[best].items()},
        "seeds": reached,
        "failed": failed,
        "baseline": {f"selection_{key}": value for key, value in found.get("baseline", {}).items()} or None,
        "seconds": ledger.seconds("distilling"),
        "device": device_of(spec),
        "folder": place,
        "start": student.space.start,
        "begins_as": student.called,
    }


def _trainings(spec: DistillSpec, settled: DistillSpec) -> list[tuple[str, DistillSpec]]:
    """What is trained one after the other, each with its role: the student with every seed, and the baseline.

    Args:
        settled: The same with its method chosen.
    """
    runs = [("student", settled.model_copy(update={"seed": spec.seed + i})) for i in range(spec.seeds)]
    return [*runs, ("baseline", spec.model_copy(update=WITHOUT_TEACHER))] if spec.baseline else runs


def _selection_scores(story: Story, model: nn.Module, dataset: Dataset) -> Mapping[str, float]:
    """What the last epoch's network is worth, as it is; picking the best epoch would flatter it."""
    task, selection = dataset.task, dataset.selection
    sound = partial(_sound, model, task)
    return measure_all(domains.metrics(task), sound, selection, report=alive(story.ledger, "distilling"))


def _train(
    story: Story, student: Student, dataset: Dataset, spec: DistillSpec, role: str, number: int, count: int
) -> tuple[nn.Module, Report]:
    """One of a job's trainings, gone on with where an earlier attempt left it; returns what it took, too."""
    path = story.ledger.folder / "checkpoints" / f"{role}-{spec.seed}.safetensors"
    start = path.with_suffix(".start.safetensors")
    model = begun(student.space, student.architecture, dataset.task, spec.seed, start)
    started, last, fell_back = time.monotonic(), None, False
    trained = train if spec.devices == 1 else train_together
    for last in trained(
        model,
        dataset,
        spec,
        teacher=story.teacher,
        optimizer=student.learns_by,
        checkpoint_path=path,
        cache=story.ledger.cache,
        **({"alive": alive(story.ledger, "distilling")} if spec.devices == 1 else {}),
    ):
        fell_back = fell_back or _tell_fallback(story.ledger.warn, last, spec)
        share = last.step / last.steps
        eta_s = last.eta_s + (count - number - 1) * (time.monotonic() - started + last.eta_s)
        report = {"phase": "distilling", **asdict(last), "eta_s": eta_s, "progress": (number + share) / count}
        story.ledger.report({**report, "training": role, "trainings": count, "seed": spec.seed})
    whole, usual = amount(spec), usual_lr(spec, student.learns_by)
    asked = spec.micro_batch or whole.batch_size // spec.devices
    if last is not None and last.micro_batch < asked:
        story.ledger.warn(
            "fewer_at_a_time",
            f"for want of memory {last.micro_batch} examples were computed at a time instead of {asked}: batch norm "
            "and what compares examples saw those alone; set distill.micro_batch or distill.batch_size to choose",
        )
    return model, {
        **asdict(whole),
        "steps": dataset.training_examples // whole.batch_size * whole.epochs,
        # An earlier attempt may have ended the training without saying so; its rollbacks are not known then.
        "lr": last.lr if last else spec.lr or usual,
        "usual_lr": usual,
        "usual_steps": domains.of(dataset.task).pace.steps,
        "retries": last.retries if last else 0,
        "precision": last.precision if last else computed_in(path, device_of(spec)) or "fp32",
        "precision_why": last.precision_why if last else "",
    }


def _tell_fallback(warn: Callable[[str, str], None], last: Progress, spec: DistillSpec) -> bool:
    found = fallback(last, spec)
    if found is not None:
        warn(found.code, found.detail)
    return found is not None


def _sound(model: nn.Module, task: Task, x_BCHW: Tensor) -> Tensor:
    """A student's answers; raises TrainingError where they are no numbers, whatever its weights are."""
    answers_BK = logits(model, task, x_BCHW)
    if not answers_BK.isfinite().all():
        raise TrainingError("the trained network's answers are no numbers; lower distill.lr", field="distill.lr")
    return answers_BK
