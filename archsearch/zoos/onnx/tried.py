"""A graph asked for the first time, on noise: whether it takes images, and answers each of them by itself; and asked
ever after, held to what it showed then."""

# B batch, C channels, H W space

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from archsearch.data.batches import require_room
from archsearch.errors import TeacherError
from archsearch.zoos.onnx.library import told
from archsearch.zoos.onnx.network import Array, Intake

Run = Callable[[dict[str, Array]], list[Array]]
# Images a graph is tried on: as many as tell probabilities from logits.
_TRIED = 8
# Of what answers range over: rounding that differs from run to run, and that of int8 whose scale is a whole batch's.
_ROUNDING, _OF_A_BATCH = 0.01, 0.1
# A batch is held as torch has it, as the graph takes it, and as the first layer has it.
_COPIES = 3 * 4


def tried(
    run: Run, names: Sequence[str], intake: Intake, unit: float, sizes: tuple[int, int, int], field: str
) -> tuple[Intake, list[Array]]:
    """The outputs to some noise; a graph that says it takes any number of images, and does not, takes one at a time.

    Raises TeacherError where it does not take images of these sizes, or answers to them together.

    Args:
        names: Of the outputs.
        unit: A pixel's largest value.
        sizes: Channels, height and width.
    """
    if intake.batch is not None:
        require_room(
            _COPIES * intake.batch * math.prod(sizes),
            f"{intake.batch:,} images at once, as many as the graph takes,",
            field=field,
            fix="export it for any number of them",
        )
    x_BCHW = _noise(intake.batch or _TRIED, sizes) * unit
    for count in (len(x_BCHW), 1) if intake.batch is None else (len(x_BCHW),):
        taken = intake if count == len(x_BCHW) else replace(intake, batch=1)
        given = taken.array(x_BCHW[:count])
        try:
            outputs = run({intake.name: given})
        except Exception as error:  # the runtime raises a dozen kinds of its own
            reason = told(error)
            continue
        odd = next((i for i, output in enumerate(outputs) if output.ndim < 2 or len(output) != count), None)
        if odd is None:
            _check_each_by_itself(run, taken, given, outputs, field)
            return taken, outputs
        reason = (
            f"its output {names[odd]!r:.80} has the shape {outputs[odd].shape} for {count} of them, and a row or a map "
            "for each is needed; export it so, or without that output"
        )
    raise TeacherError(
        f"the graph does not take images of {sizes[1]}×{sizes[2]} pixels and {sizes[0]} channels: {reason}; say "
        "teacher.input_size or teacher.layout if they are others",
        field=field,
    )


def guarded(run: Run, names: Sequence[str], sizes: Sequence[int], outputs: Sequence[Array], field: str) -> Run:
    """The same for whoever asks later, images of any sizes: raises TeacherError where it fails, or does not give each
    image as much as when it was tried.

    Args:
        sizes: Of an image as the graph took it, at its trial.
        outputs: What it gave then.
    """
    shown = [output.shape[1:] for output in outputs]

    def asked(feed: dict[str, Array]) -> list[Array]:
        (given,) = feed.values()
        try:
            found = run(feed)
        except Exception as error:  # as above
            detail = f"ONNX Runtime fails on {_listed(given.shape)} numbers: {told(error)}; give a smaller input_size"
            raise TeacherError(detail, field=field) from None
        for name, output, was in zip(names, found, shown, strict=True):
            same = given.shape[1:] != tuple(sizes) or output.shape[1:] == was
            if output.shape[:1] != (len(given),) or not same:
                raise TeacherError(
                    f"the graph's output {name!r:.80} has the shape {output.shape} for {len(given)} images, and "
                    f"{_listed(was)} for each when it was tried; export it so that what is put out for an image does "
                    "not depend on what it shows, nor on how many there are",
                    field=field,
                )
        return found

    return asked


def _noise(count: int, sizes: Sequence[int]) -> Tensor:
    """Images in 0-1 of which each is brighter than the one before."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, *sizes, generator=generator) * torch.linspace(1 / count, 1, count).view(-1, 1, 1, 1)


def _check_each_by_itself(run: Run, intake: Intake, given: Array, outputs: Sequence[Array], field: str) -> None:
    """Raise TeacherError for a graph that answers otherwise when it is asked again, or about an image alone: answers
    are kept, and asked for in batches of any size."""
    alone = np.resize(given[:1], (intake.batch or 1, *given.shape[1:]))
    for feed, how, allowed in (
        (given, "the same images otherwise each time", _ROUNDING),
        (alone, "to an image otherwise when others stand beside it", _OF_A_BATCH),
    ):
        again = run({intake.name: feed})
        for one, other in zip(outputs, again, strict=True):
            count = min(len(one), len(other)) if feed is given else 1
            if _apart(one[:count], other[:count]) > allowed * _range(one):
                raise TeacherError(
                    f"the graph answers {how}, as networks do that were exported as they are trained; export it in "
                    "evaluation mode: model.eval()",
                    field=field,
                )


def _apart(one: Array, other: Array) -> float:
    if one.shape != other.shape:
        return math.inf
    return float(np.abs(_numbers(one) - _numbers(other)).max(initial=0))


def _range(output: Array) -> float:
    return float(np.ptp(_numbers(output))) if output.size else 0.0


def _numbers(output: Array) -> Array:
    """In double precision; what is no number is for others to complain of."""
    return np.nan_to_num(output.astype(np.float64), posinf=0, neginf=0)


def _listed(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
