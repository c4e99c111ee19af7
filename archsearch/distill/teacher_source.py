"""How a batch gets the teacher's answers: by asking, or from what was answered before."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from archsearch import domains
from archsearch.data.batches import Alive, fitting, unasked
from archsearch.data.decisions import decided_once, decisions
from archsearch.data.shape import laid_out
from archsearch.data.task import Dataset, Task
from archsearch.device import alike
from archsearch.distill.kept import Form, Whole, form_of
from archsearch.distill.loader import Batch
from archsearch.distill.loss import Outputs
from archsearch.distill.pool import learned, pool
from archsearch.distill.remembered import remembered
from archsearch.distill.view_cache import ViewCache, open_cache
from archsearch.distill.watched import Watched
from archsearch.precision import autocast, resolve
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, input_effort

if TYPE_CHECKING:
    from torch import Tensor

# Views that are missing in the cache are asked for in batches of a few sizes: a new size costs the CPU's kernels
# a preparation of their own, and compiled ones a compilation.
_PARTS = 4


class TeacherSource(Protocol):
    """The teacher's side of a training."""

    def outputs(self, batch: Batch) -> Outputs:
        """What the teacher shows of a batch."""

    def flush(self) -> None:
        """Make what was learned of the teacher last; called at every checkpoint."""


class Online:
    """A teacher that looks at every batch."""

    def __init__(
        self,
        teacher: Teacher,
        watched: Watched,
        task: Task,
        spec: DistillSpec,
        device: str,
        run: Any = None,
        alive: Alive = unasked,
    ) -> None:
        self.teacher, self.watched, self.task, self.spec = teacher, watched, task, spec
        self.device, self.alive = device, alive
        self._at_once: int | None = None
        self.run = watched.model if run is None else run  # a compiled module has no truth value
        # Where answers could be kept they are in that form anyway, so that a cache saves time and changes nothing.
        self.form: Form | None = None

    def outputs(self, batch: Batch) -> Outputs:
        import torch

        with torch.no_grad(), autocast(self.spec.precision, self.device):
            answers_MK = decisions(batch.y).rows(self._answers(batch.x))
            if self.form is None:
                return self.watched.outputs(answers_MK)
            shown = self.form.shown(answers_MK)
            return replace(self.watched.outputs(shown.answers_MK), rest_M=shown.rest_M)

    def flush(self) -> None:
        """Nothing is kept."""

    def _answers(self, x: Tensor) -> Tensor:
        """Its logits; on a processor those of a large teacher come a few at a time, where nothing else is read."""
        import torch

        if self.device != "cpu" or self.watched.reads - {"logits"}:
            whole_BK: Tensor = self.run(self.teacher.prepare(x))
            return whole_BK
        if self._at_once is None:
            one = input_effort(self.teacher.model, self.teacher.shape(self.task))
            self._at_once = len(x) if one is None else fitting(one, steady=True)
        found: list[Tensor] = []
        for part in torch.split(x, self._at_once):
            if found:
                self.alive()
            found.append(self.run(self.teacher.prepare(part)))
        return torch.cat(found)


class Cached:
    """A teacher whose logits are kept, so that it looks at a view once only."""

    def __init__(self, online: Online, cache: ViewCache, form: Form) -> None:
        self.online, self.cache, self.form = online, cache, form

    def outputs(self, batch: Batch) -> Outputs:
        assert batch.view_B is not None
        known_B = self.cache.look(batch.row_B, batch.view_B)
        if not known_B.all():
            self._ask(batch, np.flatnonzero(~known_B))
        return self.form.read(self.cache.get(batch.row_B, batch.view_B), batch.x.device)

    def flush(self) -> None:
        self.cache.flush()

    def _ask(self, batch: Batch, missing_M: np.ndarray[Any, np.dtype[np.intp]]) -> None:
        import torch

        assert batch.view_B is not None
        images = len(batch.row_B)
        part = -(-images // _PARTS)
        padded = min(images, -(-len(missing_M) // part) * part)
        asked_P = torch.from_numpy(np.resize(missing_M, padded)).to(batch.x.device)
        x_P = laid_out(batch.x[asked_P])
        outputs = self.online.outputs(Batch(x_P, batch.y, batch.row_B, None))
        self.cache.put(batch.row_B[missing_M], batch.view_B[missing_M], self.form.written(outputs)[: len(missing_M)])


def asked_once(online: Online, dataset: Dataset, spec: DistillSpec, home: Path | None) -> bool:
    """Whether its answers are to be kept, as `cached` does where memory or disk have room."""
    possible = domains.of(dataset.task).views(dataset.task, spec) if decided_once(dataset.train.y_N) else None
    if possible is None or spec.view_cache == "off":
        return False
    if online.watched.reads - {"logits"}:
        return possible.count == 1 and online.watched.reads - {"logits"} == {"attention"} and online.device == "cpu"
    return home is not None


def cached(
    online: Online, teacher: Teacher, dataset: Dataset, spec: DistillSpec, home: Path | None, device: str
) -> TeacherSource:
    """The teacher with its answers kept under `home`, where logits are all that is read, views have numbers, and every
    example is one decision; in memory with its attention, where that is read too and an example has one view."""
    once = decided_once(dataset.train.y_N)
    possible = domains.of(dataset.task).views(dataset.task, spec) if once else None
    shows = online.watched.reads - {"logits"} == {"attention"}
    if possible is not None and possible.count == 1 and spec.view_cache == "auto" and shows:
        found = remembered(online, learned(dataset, pool(dataset, spec)))
        if found is not None:
            return found
    if possible is None or online.watched.reads - {"logits"}:
        return online
    rows, task = dataset.training_examples, dataset.task
    many, sampled = task.kind == "multilabel", not possible.every
    online.form = form = form_of(rows, possible.count, task.classes, sampled=sampled, many=many)
    if home is None or spec.view_cache == "off":
        return online
    identity = {
        "teacher": teacher.identity,
        "data": dataset.sha256,
        "views": repr(possible),
        # Half precision answers a little differently, and so does another device.
        "computed": f"{resolve(spec.precision, device)} {alike(device)}",
    }
    if not isinstance(form, Whole):
        identity["form"] = repr(form)
    cache = open_cache(home / "views", identity, rows, possible.count, form.width)
    return online if cache is None else Cached(online, cache, form)


def tail(online: Online, batch: Batch) -> Any:
    """The teacher's later layers as losses may call them; see `LossInputs.tail`."""
    x, decided = online.teacher.prepare(batch.x), decisions(batch.y)

    def go_on(stage: int, map_BCHW: Tensor) -> Tensor:
        with autocast(online.spec.precision, online.device):
            return decided.rows(online.watched.tail(x, stage, map_BCHW))

    return go_on
