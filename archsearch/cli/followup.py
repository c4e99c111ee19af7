"""What comes after a search: any of its candidates, by its number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from archsearch.cli.outcome import chosen
from archsearch.errors import InvalidRequest, NotFound
from archsearch.local import CANDIDATES
from archsearch.outfolder import MANIFEST
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
            return {**_again(manifest.get("asked") or manifest["request"]), "student": student}
    raise NotFound(f"the search in {folder} has no candidate {number}; see {listing}", field="--candidate")


def _again(request: Any) -> Body:
    return {name: request[name] for name in ("teacher", "data", "distill") if name in request}
