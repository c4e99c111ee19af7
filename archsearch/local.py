"""The whole job in this process, with files instead of a service: for Python and the shell."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from archsearch import data, domains, pretrained, progress, story
from archsearch.device import resolve
from archsearch.errors import InvalidRequest
from archsearch.hardware.profile import Profile, read_profile
from archsearch.ledger.folder import FolderLedger, Listener
from archsearch.outfolder import FIX, claimed
from archsearch.request import (
    DatasetData,
    JobRequest,
    LocalTeacher,
    OfJob,
    PretrainedNetwork,
    RegisteredTeacher,
    parse_request,
)
from archsearch.result import Result
from archsearch.settings import pretrained_dir, user_cache
from archsearch.story import Opened, Story
from archsearch.teachers import Teacher

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
        check_apart(request.teacher.path, out, "teacher")
    with claimed(out, request.model_dump_json(), overwrite=overwrite) as made, progress.shown(listener) as tell:
        return _run(request, out, tell, made)


def check_apart(source: Path | str, out: Path, what: str) -> None:
    """Raise where a run would write over what it begins with."""
    path = Path(source)
    if (path.parent if path.is_file() else path).resolve() == out.resolve():
        raise InvalidRequest(f"{out} holds the {what}; choose another folder", field="out")


def _run(request: JobRequest, out: Path, tell: Listener, made: Mapping[str, Any] | None) -> Result:
    resolve(request.device)  # before anything is read
    dataset = _data(request, tell)
    teacher = _teacher(request, dataset)
    domain = domains.of(dataset.task)
    dataset = domain.encode(dataset, teacher, None, reading(tell, domain.examples))
    if made is not None:
        if (made["data"]["sha256"], made["teacher"]["sha256"]) != (dataset.sha256, teacher.sha256):
            raise InvalidRequest(
                f"{out} was made by the same request of another teacher or other data, which have changed since; {FIX}",
                field="out",
            )
        return cast(Result, {name: made[name] for name in Result.__annotations__ if name in made})
    ledger = FolderLedger(out, request, tell)
    opened = Opened(teacher, dataset, _profile(request), _networks)
    result = story.tell(Story(request, ledger, lambda: opened), ledger.once)
    shutil.rmtree(ledger.folder, ignore_errors=True)
    return cast(Result, result)


def _data(request: JobRequest, listener: Listener) -> Any:
    if request.student is not None and request.student.job is not None:
        raise InvalidRequest(f"{request.student.job} lives in a service; give space and architecture", field="student")
    if isinstance(request.data, DatasetData):
        raise InvalidRequest(f"{request.data.id} lives in a service; name a file or folder here", field="data")
    assert not isinstance(request.data, OfJob)  # only a student of a service's job goes with it
    return loading(request.data, listener)


def reading(listener: Listener, examples: str) -> Callable[[int, int], None]:
    """Reading examples, told as any phase is, in the words for them."""
    told = {"phase": "reading", "examples": examples}
    return lambda done, of: listener({**told, "read": done, "of": of, "progress": done / of})


def loading(spec: Any, listener: Listener) -> Any:
    """The data a request names, told as any phase is while they are read."""
    words = domains.get(domains.DATA[spec.kind]).loads_in if spec.kind in domains.DATA else ""
    return domains.load(spec, listener=reading(listener, words), cache=user_cache() / "evidence")


def _profile(request: JobRequest) -> Profile | None:
    """The profile a budget names by its file."""
    device = request.budget.device
    if device.startswith("prf_"):
        raise InvalidRequest(f"{device} lives in a service; name a profile's file", field="budget.device")
    if device.endswith(".json"):
        return read_profile(Path(device))
    return None


def _teacher(request: JobRequest, dataset: data.Dataset) -> Teacher:
    if isinstance(request.teacher, RegisteredTeacher):
        raise InvalidRequest(f"{request.teacher.id} lives in a service; give a timm name or a folder", field="teacher")
    assert not isinstance(request.teacher, OfJob)
    return domains.of(dataset.task).load_teacher(request.teacher, None, dataset, device=resolve(request.device))


def _networks(named: Sequence[PretrainedNetwork] | None) -> list[pretrained.Stored]:
    """The networks with weights a request names, or all at hand on this machine."""
    folder = pretrained_dir()
    return pretrained.at_hand(folder) if named is None else pretrained.find(named, folder, pretrained.none_registered)
