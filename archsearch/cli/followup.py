"""What comes after a search: any of its candidates, by its number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from archsearch.cli.outcome import chosen
from archsearch.errors import InvalidRequest, NotFound
from archsearch.ledger.folder import CANDIDATES
from archsearch.outfolder import MANIFEST
from archsearch.spaces.choose import PRETRAINED
from archsearch.whole import read_kept

Body = dict[str, Any]
Ask = Callable[[str], Mapping[str, Any]]


def follow_up(source: str | None, candidate: str | None, ask: Ask | None) -> Body:
    """The request that distils a candidate of a search: with its teacher, its data and its distillation.

    Args:
        source: The search's folder, or its job.
        candidate: Its number, or `job_…:number`; without one it is the winner.
        ask: Tells a server's job, where there is a server.
    """
    job, _, text = (candidate or "").rpartition(":")
    source = source or job
    if not source:
        raise InvalidRequest("say whose candidate it is: --from FOLDER, or --from job_…", field="--from")
    if text and not re.fullmatch(r"\d{1,9}", text):
        raise InvalidRequest(f"{text!r} is no number of a candidate", field="--candidate")
    number = int(text) if text else None
    if re.fullmatch(r"job_[0-9a-f]{20}", source):
        if ask is None:
            raise InvalidRequest(f"{source} lives in a service; `archsearch submit` goes on from it", field="--from")
        return _of_job(ask(source), number)
    return _of_folder(Path(source), number)


def _of_job(job: Mapping[str, Any], number: int | None) -> Body:
    if number is None:
        if not (job["result"] or {}).get("search"):
            raise InvalidRequest(f"{job['id']} has found no winner (yet); give --candidate", field="--candidate")
        number = chosen(job["result"])["number"]
    return {**_again(job["request"]), "student": {"job": job["id"], "candidate": number}}


def _of_folder(folder: Path, number: int | None) -> Body:
    manifest, listing = read_kept(folder / MANIFEST), folder / CANDIDATES
    if not isinstance(manifest, dict) or "search" not in manifest or not listing.is_file():
        raise InvalidRequest(f"{folder} holds no finished search of archsearch", field="--from")
    number = chosen(manifest)["number"] if number is None else number
    for line in listing.read_text().splitlines():
        found = json.loads(line)
        if found["number"] == number:
            student = {"space": found["space"], "architecture": found["architecture"]}
            asked = rebased(manifest.get("asked") or manifest["request"], manifest, folder)
            networks = (manifest.get("pretrained") or {}).get("networks") if found["space"] == PRETRAINED else None
            search = {} if networks is None else {"search": {"pretrained": networks}}
            return {**_again(asked), **search, "student": student}
    raise NotFound(f"the search in {folder} has no candidate {number}; see {listing}", field="--candidate")


def rebased(request: Any, manifest: Mapping[str, Any], folder: Path) -> Body:
    """A request of a manifest, its relative paths as the run in that folder meant them.

    They began where the run was started, which the manifest tells as seen from its folder; one of an earlier version
    does not, and what is not there any more is left as it stands.
    """
    start = manifest.get("asked_from")
    if not isinstance(start, dict) or not isinstance(start.get("path"), str) or not isinstance(request, dict):
        return dict(request)
    base = (folder.resolve() / start["path"]).resolve()
    if base == Path.cwd().resolve():
        return dict(request)
    found = {part: _moved(request[part], "path", base) for part in ("teacher", "data", "budget") if part in request}
    if "budget" in found:  # a profile's file
        found["budget"] = _moved(found["budget"], "device", base)
    return {**request, **found}


def _moved(part: Any, name: str, base: Path) -> Any:
    """The fields with the path among them beneath a folder, where it is there."""
    path = part.get(name) if isinstance(part, dict) else None
    if not isinstance(path, str) or Path(path).is_absolute() or not (base / path).exists():
        return part
    return {**part, name: str(base / path)}


def _again(request: Any) -> Body:
    return {name: request[name] for name in ("teacher", "data", "device", "distill") if name in request}
