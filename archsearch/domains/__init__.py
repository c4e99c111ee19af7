"""Domains by name, and what every one of them does alike: the table says which there are.

A new domain is a folder here, a line in `DOMAINS`, a line in `DATA` for each way its data come, and a member of the
request's unions.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.errors import DataError, InvalidRequest, UnknownName

if TYPE_CHECKING:  # requests name a domain's own specs, and are below what these know
    from archsearch.data import Dataset, Limits, Task
    from archsearch.data.metrics import Metric
    from archsearch.domains.domain import Domain

__all__ = [
    "DATA",
    "DOMAINS",
    "get",
    "is_whole",
    "judge",
    "load",
    "metrics",
    "of",
    "of_config",
    "open_dataset",
    "read_task",
    "save_dataset",
    "sized",
    "sizes",
    "teacher_files",
    "vocabularies",
]

# The module of each domain; its `DOMAIN` is the domain itself.
DOMAINS = {
    "image_classification": "archsearch.domains.image_classification",
    "text_classification": "archsearch.domains.text_classification",
}
# Which domain reads data of a kind, as requests name it.
DATA = {
    "digits": "image_classification",
    "npz": "image_classification",
    "image_folder": "image_classification",
    "text": "text_classification",
}
RECORD = "task.json"


def get(name: str) -> Domain:
    """The domain of that name; raises UnknownName."""
    if name not in DOMAINS:
        raise UnknownName("domain", name, DOMAINS, field="domain")
    found: Domain = importlib.import_module(DOMAINS[name]).DOMAIN
    return found


def of(task: Task) -> Domain:
    """The domain a task is of."""
    return get(task.domain)


def sizes() -> dict[str, Any]:
    """Every field that tells of what size the examples of some domain are, by name; no two domains share one."""
    return {name: field for domain in map(get, DOMAINS) for name, field in domain.sizes.model_fields.items()}


def sized(domain: str | None, classes: int, given: Mapping[str, Any]) -> Task:
    """A task of some size, for whoever asks what networks of it cost.

    Args:
        domain: By name; None takes that whose sizes are given, of images where none are.
        given: Sizes by name, None where nothing is said.

    Raises InvalidRequest naming a size that the domain's examples do not have.
    """
    told = {name: value for name, value in given.items() if value is not None}
    if domain is None:
        own = (name for name in DOMAINS if told.keys() & get(name).sizes.model_fields.keys())
        domain = next(own, "image_classification")
    found = get(domain)
    strange = sorted(told.keys() - found.sizes.model_fields.keys())
    if strange:
        raise InvalidRequest(f"{found.examples} have no {strange[0]}; leave it out", field=strange[0])
    task: Task = found.sizes(**told).task(classes)
    return task


def vocabularies() -> dict[str, int]:
    """Of each domain, below which number the ids lie that its networks take; 0 where they take numbers."""
    return {name: domain.shape(domain.sizes().task(2)).vocabulary for name in DOMAINS for domain in (get(name),)}


def metrics(task: Task) -> Sequence[Metric]:
    """What answers to a task are measured by: first what it is judged by, then what is reported beside that."""
    return of(task).metrics(task)


def judge(task: Task) -> Metric:
    """The one metric that decides."""
    return metrics(task)[0]


def read_task(body: Any) -> Task:
    """A task from its JSON, as rows of data sets keep it; images were the only kind before any was named."""
    known = dict(body)
    return get(known.pop("domain", "image_classification")).read_task(known)


def of_config(config: Mapping[str, Any]) -> Domain:
    """The domain of the student that a `config.json` describes; of images where none says it is its own."""
    return next((domain for domain in map(get, DOMAINS) if domain.knows(config)), get("image_classification"))


def teacher_files() -> set[str]:
    """Names of the files that teachers' folders consist of, of whatever domain; others in one are never read."""
    return {name for domain in map(get, DOMAINS) for name in domain.teacher_files}


def load(
    spec: Any,
    limits: Limits | None = None,
    *,
    listener: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> Any:
    """The data set a request names; raises InvalidRequest for one that only a service holds.

    Args:
        listener: Called with files read and those there are, now and then.
        cache: Folder where what reading found may be kept, to spare it the next time.
    """
    if spec.kind not in DATA:
        raise InvalidRequest(
            f"data set {spec.id} lives in a service; submit the job there, or name data on this machine", field="data"
        )
    from archsearch.data.shots import few_shots

    return few_shots(get(DATA[spec.kind]).load(spec, limits, listener, cache), spec)


def save_dataset(dataset: Dataset, folder: Path, *, own: bool = False) -> None:
    """Write the data set to `folder`, whole or not at all; the same data set there already is left alone.

    Raises Conflict where the folder holds anything else.

    Args:
        own: Whether it has to outlive the files it was read from, where it stays in them.
    """
    of(dataset.task).save_dataset(dataset, folder, own=own)


def open_dataset(folder: Path) -> Any:
    """The data set stored in `folder`, its columns memory-mapped; raises DataError if it is not whole."""
    return get(_domain_of(folder)).open_dataset(folder)


def is_whole(folder: Path) -> bool:
    """Whether a data set stored in `folder` can be opened."""
    try:
        open_dataset(folder)
    except DataError:
        return False
    return True


def _domain_of(folder: Path) -> str:
    """Which domain stored the data; images were the only ones before any was named."""
    try:
        found = json.loads((folder / RECORD).read_bytes()).get("domain", "image_classification")
    except (OSError, ValueError, AttributeError):
        return "image_classification"  # says best what is wrong with it
    return str(found)
