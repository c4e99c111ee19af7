"""From an exported folder to every format of its student, each held against the fp32 one before it is kept."""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch import domains
from archsearch.data.batches import Alive, unasked
from archsearch.data.metrics import Metric
from archsearch.data.task import Split, Task
from archsearch.errors import ExportError, InvalidRequest, UnknownName
from archsearch.evaluate import Logits, Network, likeness
from archsearch.export.files import PREPROCESSING, WEIGHTS
from archsearch.export.folder import read_json
from archsearch.export.format import Answer, Examples, Format, Subject, answer_all
from archsearch.export.from_file import FromFile
from archsearch.whole import is_full

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# The weights as their library loads them: what every format is held against.
REFERENCE = "safetensors"
# Largest difference from the fp32 student's logits, absolute where logits are small and relative to the largest where
# they are not: fp32 rounds to 6e-8 of a value, and a network adds up some thousands of values.
TOLERANCE = 1e-4
_SCRATCH = ".archsearch-"

Listener = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Parity:
    """How a format's answers to held-out images differ from the fp32 student's.

    Attributes:
        max_abs_diff: Largest difference of a logit.
        largest_logit: Largest absolute logit of the fp32 student: what the difference is small or large against.
        agreement: Share of images with the same first answer, in percent; of labels, where an image has many.
        kl: Mean KL(fp32 ‖ format) of the answers, in nats.
    """

    max_abs_diff: float
    largest_logit: float
    agreement: float
    kl: float


@dataclass(frozen=True)
class LatencyOf:
    """Milliseconds of one image on one thread: median and quartiles over blocks of passes."""

    median_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Made:
    """One form of the student that is there, and runs.

    Attributes:
        details: How it was made, as plain JSON.
        answer: Runs it with all of torch's threads.
        raw: From examples as a split gives them to what `answer` takes.
    """

    name: str
    doc: str
    path: Path
    parity: Parity
    from_file: FromFile | None
    latency: LatencyOf
    details: Mapping[str, Any]
    answer: Answer
    raw: Callable[[Tensor], Examples]

    def network(self) -> Network:
        """The same for examples as a split gives them, as evaluation wants it."""
        import torch

        def run(x: Tensor) -> Tensor:
            return torch.from_numpy(self.answer(self.raw(x)))

        return run


@dataclass(frozen=True)
class Formats:
    """All forms of a student.

    Attributes:
        made: The library's own weights first, then every format.
        missing: Why a format is not there and what to do about it, by name.
        held_out: The split parity was measured on, or `noise` where there were no data.
        images: How many (count).
        judge: What the task is judged by.
        timed: What latencies are of, in words: one `image`, or `text of 64 tokens`.
    """

    made: tuple[Made, ...]
    missing: Mapping[str, str]
    held_out: str
    images: int
    judge: Metric
    timed: str = "example"


def make_formats(
    folder: Path,
    task: Task,
    held_out: Split | None,
    *,
    names: Iterable[str] | None = None,
    listener: Listener | None = None,
    alive: Alive = unasked,
) -> Formats:
    """Write a folder's student in other formats beside it, and measure what each of them is worth.

    A format lies in the folder once it is known to agree, and not before; one that was there is replaced, or goes.

    Args:
        folder: Holds `model.safetensors` and `config.json`.
        held_out: Images the student did not learn from and is not tested on: parity is measured on them, and int8
            takes its scales from them. Without them parity is measured on noise, and int8 cannot be made.
        names: Formats to make; by default all that can be.
        listener: Called with what is being done, how many steps are done, and how many there are.
        alive: Called between two batches; what it raises ends the making, and is raised.

    Raises:
        ExportError: A format that was named cannot be written, opened, or does not agree. Of those nobody named, the
            reason is told under `missing`: no training is lost for one of them.
        InvalidRequest: No such format, or one that needs images and there are none.
    """
    domain = domains.of(task)
    wanted = choose_formats(names, domain.formats(), calibrated=held_out is not None)
    tell = listener or (lambda what, done, of: None)
    for left in folder.glob(f"{_SCRATCH}*"):  # by a process that was killed
        shutil.rmtree(left)
    examples = domain.held_out(held_out, task)
    student = domain.open(folder)
    written: list[_Written] = []
    missing: dict[str, str] = {}
    # In the folder itself, so that what agrees is moved into place and never copied half.
    with _heeding(), TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
        subject = Subject(student, task, examples, Path(scratch), _insisting(alive))
        own = domain.reference(student, task)
        expected_NK = answer_all(own, examples, subject.batch, subject.alive)
        domain.write_reading(folder, task)
        settings = read_json(folder / PREPROCESSING)
        first = domain.measure_from_file(WEIGHTS, own, settings, expected_NK, subject, _tolerance(0))
        for done, one in enumerate(wanted):
            tell(one.file, done, len(wanted) + 1)
            (folder / one.file).unlink(missing_ok=True)
            if (reason := one.unavailable()) is not None:
                missing[one.name] = reason
                continue
            try:
                written.append(_write(one, subject, expected_NK, folder / one.file))
            except Exception as error:  # exporters and runtimes fail in ways of their own
                if is_full(error, folder):
                    raise OSError(errno.ENOSPC, f"{one.file} cannot be written: {os.strerror(errno.ENOSPC)}") from None
                log.exception("%s cannot be made", one.file)
                missing[one.name] = _reason(error, subject.folder, folder)
        if names is not None and missing:
            raise ExportError("; ".join(f"{name} is not there: {reason}" for name, reason in missing.items()))
        for each in written:
            (subject.folder / each.path.name).replace(each.path)
    tell("latency", len(wanted), len(wanted) + 1)
    largest = float(np.abs(expected_NK).max())
    same = Parity(0.0, largest, 100.0, 0.0)
    itself = partial(Made, REFERENCE, f"Weights in fp32, for {domain.library}.", folder / WEIGHTS, same, first)
    made = _timed(itself, own, written, examples[:1], domain.raw)
    tell("formats", len(wanted) + 1, len(wanted) + 1)
    split = "noise" if held_out is None else "selection"
    return Formats(made, missing, split, len(examples), domains.judge(task), domain.called(examples[0]))


class _Ended(BaseException):
    """Carries what ended the making past whoever takes every error for a format's own."""


def _insisting(alive: Alive) -> Alive:
    def ask(*at: object) -> None:
        try:
            alive(*at)
        except Exception as error:
            raise _Ended(error) from error

    return ask


@contextmanager
def _heeding() -> Iterator[None]:
    try:
        yield
    except _Ended as ended:
        (error,) = ended.args
    else:
        return
    raise error


def choose_formats(names: Iterable[str] | None, formats: Iterable[Format], *, calibrated: bool) -> list[Format]:
    """Formats by name, or all there are images enough for; raises InvalidRequest for what cannot be."""
    if names is None:
        return [one for one in formats if calibrated or not one.needs_images]
    known = {one.name: one for one in formats}
    wanted = [_named(name, known) for name in dict.fromkeys(names)]
    for one in wanted:
        if one.needs_images and not calibrated:
            raise InvalidRequest(f"{one.name} takes its scales from images; give --data", field="--format")
        if (reason := one.unavailable()) is not None:
            raise InvalidRequest(f"{one.name} cannot be made here: {reason}", field="--format")
    return wanted


def _named(name: str, known: Mapping[str, Format]) -> Format:
    if name not in known:
        raise UnknownName("format", name, known, field="--format")
    return known[name]


def require_parity(one: Format, answer: Answer, expected_NK: Logits, subject: Subject) -> Parity:
    """How a format's answers differ; raises ExportError where it has to agree and does not, or answers no numbers."""
    examples = subject.examples
    # One image alone and many at once: a batch that was traced as a constant shows. A single image is asked twice more.
    others = examples[1:] if len(examples) > 1 else np.repeat(examples, 2, axis=0)
    found_NK = np.concatenate([answer(examples[:1]), answer_all(answer, others, subject.batch, subject.alive)])
    found_NK = found_NK[: len(examples)]
    largest, off = float(np.abs(expected_NK).max()), float(np.abs(found_NK - expected_NK).max())
    if one.exact and not off <= _tolerance(largest):
        raise ExportError(
            f"{one.file} differs from the fp32 student by {off:.3g} in a logit (the largest is {largest:.3g}), more "
            f"than {TOLERANCE:g} of it; it is not shipped. Other versions of torch, onnx or onnxruntime may agree"
        )
    if not np.isfinite(off):
        raise ExportError(f"{one.file} answers held-out examples with what is no number; it is not shipped")
    like = likeness(expected_NK, found_NK, subject.task.kind)
    return Parity(off, largest, like.agreement, like.kl)


def _tolerance(largest: float) -> float:
    return TOLERANCE * max(1.0, largest)


@dataclass(frozen=True)
class _Written:
    """A format that agrees, and the place it is moved to; it has yet to be timed."""

    format: Format
    path: Path
    parity: Parity
    from_file: FromFile | None
    details: Mapping[str, Any]
    one_thread: Answer

    def made(self, latency: LatencyOf, threads: int, raw: Callable[[Tensor], Examples]) -> Made:
        """The same, timed, and opened for all threads there are."""
        again = threads > 1 and self.format.own_threads
        answer = self.format.open(self.path, threads) if again else self.one_thread
        one = self.format
        return Made(one.name, one.doc, self.path, self.parity, self.from_file, latency, self.details, answer, raw)


def _write(one: Format, subject: Subject, expected_NK: Logits, place: Path) -> _Written:
    """A format in the subject's folder, opened and held against the student; `place` is where it will lie."""
    path = subject.folder / one.file
    details = one.write(subject, path)
    answer = one.open(path, 1)
    parity = require_parity(one, answer, expected_NK, subject)
    tolerance = _tolerance(parity.largest_logit) if one.exact else None
    files = domains.of(subject.task).measure_from_file(
        one.file, answer, one.settings(path), expected_NK, subject, tolerance
    )
    return _Written(one, place, parity, files, details, answer)


def _reason(error: Exception, *folders: Path) -> str:
    """Why a format is not there, without the folders it was to be made in; they are given innermost first."""
    first_line = next(iter(str(error).splitlines()), "")
    for folder in folders:
        for name in (str(folder.resolve()), str(folder.absolute())):
            first_line = first_line.replace(name, "…")
        # A relative one only where a file follows: it may be a word of the sentence, such as `student`.
        first_line = first_line.replace(f"{folder}{os.sep}", f"…{os.sep}")
    if isinstance(error, ExportError):
        return first_line
    return f"the exporter failed: {type(error).__name__}: {first_line}"


def _timed(
    itself: Callable[[LatencyOf, Mapping[str, Any], Answer, Callable[[Tensor], Examples]], Made],
    own: Answer,
    written: list[_Written],
    example: Examples,
    raw: Callable[[Tensor], Examples],
) -> tuple[Made, ...]:
    """All forms with their latencies: timed in turn, on one thread, with one image."""
    import torch

    from archsearch.hardware.clock import interleaved
    from archsearch.hardware.devices import pinned

    def pass_of(answer: Answer) -> Callable[[], object]:
        return lambda: answer(example)

    answers = {REFERENCE: own, **{one.format.name: one.one_thread for one in written}}
    with pinned(1):
        times_ms = interleaved({name: pass_of(answer) for name, answer in answers.items()})
    quartiles = {name: quantiles(values, n=4, method="inclusive") for name, values in times_ms.items()}
    latencies = {name: LatencyOf(median, low, high) for name, (low, median, high) in quartiles.items()}
    threads = torch.get_num_threads()
    first = itself(latencies[REFERENCE], {}, own, raw)
    return (first, *(one.made(latencies[one.format.name], threads, raw) for one in written))
