"""What a training computes in where `precision` is `auto`: measured where that pays, kept, and then kept to.

A training of few steps is not worth the measurement and takes bf16 where the device knows it, as all did before there
was one. Any other times a step in each precision, once a kind of network and machine, and takes the fastest; what is
less exact has to be clearly faster. A checkpoint says what its training computes in, and a file beside it says so to
the other seeds and the baseline, so that nothing of a job changes its precision, wherever it goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from archsearch import domains
from archsearch.device import alike, kind
from archsearch.distill import checkpoint
from archsearch.distill.amount import amount
from archsearch.distill.objective import objective
from archsearch.distill.timed_step import ROUNDS, WARM_UPS, Seconds, Training, candidates, step_seconds
from archsearch.precision import Computed, Precision, resolve
from archsearch.request import DistillSpec
from archsearch.whole import read_kept, write_whole

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

# Of a training's steps, what timing may take; on a GPU networks are compiled for each precision first.
_SHARE, _COMPILING = 0.02, 20
# Of the time of the fastest that is more exact, what a less exact one may take.
CLEARLY = 0.9
_AS_BEGUN = "as it began"
_FILE = "precision-"


@dataclass(frozen=True)
class Chosen:
    """What a training computes in.

    Attributes:
        precision: `auto` only where a checkpoint of before there was a choice is gone on from.
        why: In words, for people; empty where the request says it.
    """

    precision: Precision
    why: str = ""

    def of(self, spec: DistillSpec) -> DistillSpec:
        """The training in it."""
        return spec.model_copy(update={"precision": self.precision})


def choose(training: Training, path: Path | None, identity: Callable[[DistillSpec], str]) -> Chosen:
    """What the training computes in; all processes of a group get the same.

    Args:
        path: Of its checkpoint, if it has one.
        identity: What a checkpoint has to be of to be gone on from.
    """
    if training.spec.precision != "auto":
        return Chosen(training.spec.precision)
    group = training.group
    if group.size == 1:
        return _begun(training, path, identity)
    return _agreed(_begun(training, path, identity) if group.leads else Chosen("auto"), training.device)


def fewest_steps(spec: DistillSpec, device: str) -> int:
    """Steps from which on a training is worth measuring what it computes in."""
    compiled = spec.compile == "on" or (spec.compile == "auto" and kind(device) == "cuda")
    timed = len(candidates(device)) * (WARM_UPS + ROUNDS)
    return math.ceil(timed / _SHARE) * (_COMPILING if compiled else 1)


def fastest(seconds: Seconds) -> Computed:
    """The one to take: of those that are less exact only one that is clearly faster."""
    order: tuple[Computed, ...] = tuple(name for name in get_args(Computed) if name in seconds)
    found = order[0]
    for name in order[1:]:
        if seconds[name] <= CLEARLY * seconds[found]:
            found = name
    return found


def _begun(training: Training, path: Path | None, identity: Callable[[DistillSpec], str]) -> Chosen:
    """As the training or its job began, or else chosen now."""
    if path is None:
        return _measured(training)
    spec, of = training.spec, checkpoint.identity(path)
    of_half: tuple[Precision, ...] = ("auto", "bf16", "fp16")
    begun = next((name for name in of_half if of == identity(Chosen(name).of(spec))), None) if of else None
    beside = path.parent / f"{_FILE}{_digest(_of_network(training))}.json"
    found = _kept(beside)
    # fp32 is also what half precision becomes where it diverges: what was wanted first is told beside it.
    if begun is None and found is None and of is not None and of == identity(Chosen("fp32").of(spec)):
        begun = "fp32"
    if found is None:
        found = _measured(training) if begun is None else Chosen(resolve(begun, training.device), _AS_BEGUN)
        _keep(beside, found, {"of": _of_network(training)})
    return found if begun is None else Chosen(begun, found.why)


def _measured(training: Training) -> Chosen:
    """By timing, or by what timing told before; by rule where that does not pay."""
    spec, device = training.spec, training.device
    whole = amount(spec)
    steps, fewest = len(training.dataset.train) // whole.batch_size * whole.epochs, fewest_steps(spec, device)
    usual = resolve("auto", device)
    if len(candidates(device)) == 1:
        return Chosen(usual, f"{usual}: this device computes in nothing less exact")
    if steps < fewest:
        return Chosen(usual, f"{usual}: {steps:,} steps are too few to time both, which takes {fewest:,}")
    key = _of_machine(training)
    place = None if training.cache is None else training.cache / f"{_FILE}{_digest(key)}.json"
    found = None if place is None else _kept(place)
    if found is not None:
        return found
    seconds = step_seconds(training)
    if not seconds:
        return Chosen(usual, f"{usual}: there is no memory to time others")
    found = Chosen(fastest(seconds), told(seconds))
    log.info("%s", found.why)
    if place is not None:
        _keep(place, found, {"of": key, "seconds": seconds})
    return found


def told(seconds: Seconds) -> str:
    """`bf16: 0.42 s a step against 0.97 s in fp32, measured`."""
    taken = fastest(seconds)
    others = " and ".join(f"{_time(value)} in {name}" for name, value in seconds.items() if name != taken)
    return f"{taken}: {_time(seconds[taken])} a step against {others}, measured"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def _of_network(training: Training) -> dict[str, Any]:
    """What is the same for all trainings of one job's student: what tells kinds of network and of steps apart."""
    shape = domains.of(training.dataset.task).shape(training.dataset.task)
    return {"network": network_kind(training.student), "examples": training.examples, "sizes": list(shape.sizes)}


def _of_machine(training: Training) -> dict[str, Any]:
    """All that the times depend on: the network's kind, what its step reads of which teacher, and the machine."""
    import torch

    from archsearch.hardware.latency import describe_machine

    reads = sorted(objective(training.spec, training.dataset.task).reads)
    teacher = training.teacher
    return {
        **_of_network(training),
        "reads": reads,
        "teacher": network_kind(teacher.model) if teacher is not None and reads else None,
        "view_cache": training.spec.view_cache if training.cache is not None else "off",
        "augment": training.spec.augment,
        "compile": training.spec.compile,
        "device": alike(training.device),
        "processor": describe_machine()["processor"],
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def network_kind(model: nn.Module) -> dict[str, Any]:
    """Networks of one kind are built of the same modules, about as wide, with as large a share of grouped convolutions.

    Depth is left out: it lengthens a step in every precision.
    """
    modules = list(model.modules())
    groups = [groups for module in modules if (groups := getattr(module, "groups", None)) is not None]
    widths = [weight.shape[0] for weight in model.parameters() if weight.ndim > 1]
    return {
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "modules": sorted({type(module).__qualname__ for module in modules}),
        "width": 2 ** round(math.log2(sum(widths) / len(widths))) if widths else 0,
        "grouped": round(sum(each > 1 for each in groups) / len(groups), 1) if groups else 0.0,
    }


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def _kept(path: Path) -> Chosen | None:
    """What was chosen before; None where nothing was, or where the file is damaged."""
    found = read_kept(path)
    if not isinstance(found, dict):
        return None
    why = found.get("why")
    known = next((name for name in get_args(Computed) if name == found.get("precision")), None)
    return Chosen(known, why) if known is not None and isinstance(why, str) else None


def _keep(path: Path, chosen: Chosen, more: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"precision": chosen.precision, "why": chosen.why, **more}, indent=2) + "\n")


def _agreed(chosen: Chosen, device: str) -> Chosen:
    """The first process's choice, in every process of the group."""
    import torch

    names = get_args(Precision)
    number = torch.tensor([names.index(chosen.precision)], device=device)
    torch.distributed.broadcast(number, src=0)
    return Chosen(names[int(number)], chosen.why)
