"""A typed client of the REST API: what the shell uses, and what a script would."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from archsearch import domains
from archsearch.connection import Away, Connection
from archsearch.data.pack import pack
from archsearch.errors import ArchsearchError, InvalidRequest, ServiceError
from archsearch.hardware.profile import read_profile
from archsearch.outfolder import STUDENTS
from archsearch.request import JobRequest

TERMINAL = ("succeeded", "failed", "cancelled")
# Longer than the server is silent between two pings of a stream.
_SILENCE_S = 60.0

# By the prefix of an id.
_ROOMS = {"job": "jobs", "tch": "teachers", "ds": "datasets", "up": "uploads", "prf": "profiles"}

Progress = Callable[[int, int], None]
Json = dict[str, Any]
Listener = Callable[[Json], None]


class Client:
    """Speaks to one server. Methods raise ServiceError with the server's problem, field and fix included.

    A server that restarts in between is waited for, and what was interrupted goes on where it broke off.

    with Client() as client:
        job = client.submit(request)
        for event in client.watch(job["id"]): print(event)
        client.download(job["id"], "student")
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 120.0, patience_s: float = 120.0) -> None:
        """Name the server; nothing is asked of it yet.

        Args:
            url: `ARCHSEARCH_URL`, or this machine's port 8321, where it is not given.
            timeout_s: How long one answer may take.
            patience_s: How long a server that has answered before may stay silent, as it does while it restarts.
        """
        self._server = Connection(url, timeout_s=timeout_s, patience_s=patience_s)

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._server.close()

    def upload(self, path: Path | str, *, listener: Progress | None = None) -> Json:
        """Send a file in parts and check that it arrived whole; content the server holds already is not sent again.

        Returns the completed upload.

        Args:
            listener: Called with bytes sent and bytes in all.
        """
        path = Path(path)
        size, sha256 = path.stat().st_size, _sha256_of(path)
        body = {"filename": _label(path.name), "size_bytes": size or None, "sha256": sha256}
        upload = self._object("POST", "/v1/uploads", json=body)
        sent = 0
        with path.open("rb") as file:
            for number in range(1, 100_001):
                part = file.read(upload["max_part_bytes"]) if upload["status"] == "open" else b""
                if not part:
                    break
                self.call("PUT", f"/v1/uploads/{upload['id']}/parts/{number}", content=part)
                sent += len(part)
                if listener:
                    listener(sent, size)
        return self._object("POST", f"/v1/uploads/{upload['id']}:complete", json={"sha256": sha256})

    def add_dataset(
        self,
        path: Path | str,
        format: str,
        *,
        name: str | None = None,
        wait_s: float = 3600.0,
        listener: Listener | None = None,
        **options: Any,
    ) -> Json:
        """Upload an npz, images or texts, of which a folder goes as a zip, and wait until a worker has read it.

        Raises ServiceError when it is refused. Content the server has read so before is the data set there is.

        Args:
            format: `npz`, `image_folder` or `text`.
            options: How it is read, as a request says of local data of that kind (`image_size`, `text_column`, …); see
                POST /v1/datasets.
            wait_s: How long to wait; the data set is returned still `checking` after that.
            listener: Called with the data set while it is checked; its `progress` goes from 0 to 1.
        """
        with _as_file(Path(path)) as file:
            upload = self.upload(file)
        body: Json = {"upload": upload["id"], "format": format, "name": name, **options}
        return self._checked("/v1/datasets", self._object("POST", "/v1/datasets", json=body), wait_s, listener)

    def add_teacher(
        self,
        source: Mapping[str, Any],
        *,
        weights: Path | str | None = None,
        name: str | None = None,
        data: Mapping[str, Any] | None = None,
        wait_s: float = 120.0,
        listener: Listener | None = None,
    ) -> Json:
        """Register a teacher and wait until a worker has checked it; raises ServiceError when it is refused.

        Args:
            source: `{"kind": "timm", "name": …}`, or the fields of an uploaded teacher without `upload`.
            weights: The safetensors file to upload for it, or the folder its own library saved (`kind` is `folder`).
            data: The data to measure it on, for example `{"kind": "dataset", "id": …}`.
            wait_s: How long to wait for the check; the teacher is returned still `checking` after that.
            listener: Called with the teacher while it is checked.
        """
        source = dict(source)
        if weights is not None:
            kind = "folder" if Path(weights).is_dir() else "upload"
            with _as_file(Path(weights), only=domains.teacher_files() if kind == "folder" else None) as file:
                source = {"kind": kind, **source, "upload": self.upload(file)["id"]}
        teacher = self._object("POST", "/v1/teachers", json={"source": source, "name": name, "data": data})
        return self._checked("/v1/teachers", teacher, wait_s, listener)

    def submit(self, request: JobRequest | Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Queue a job; returns it."""
        body = request.model_dump(mode="json") if isinstance(request, JobRequest) else dict(request)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._object("POST", "/v1/jobs", json=body, headers=headers)

    def jobs(self, *, status: str | None = None, limit: int = 50) -> list[Json]:
        """Jobs, newest first, without their results."""
        found: list[Json] = []
        params: dict[str, Any] = {} if status is None else {"status": status}
        while len(found) < limit:
            page = self._object("GET", "/v1/jobs", params={**params, "limit": min(200, limit - len(found))})
            found += page["data"]
            if not page["has_more"]:
                break
            params["after"] = page["next_after"]
        return found

    def job(self, job_id: str) -> Json:
        return self._object("GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> Json:
        return self._object("POST", f"/v1/jobs/{job_id}:cancel")

    def delete(self, id: str) -> None:
        """Delete a job, teacher, data set, upload or profile; its id tells which it is.

        Raises ServiceError (409) while something needs it, with the reason.
        """
        room = _ROOMS.get(id.partition("_")[0])
        if room is None:
            raise InvalidRequest(f"{id!r} is no id of a {', '.join(_ROOMS)}", field="id")
        self.call("DELETE", f"/v1/{room}/{id}")

    def storage(self) -> Json:
        """What the server keeps, by kind; what of it may go; and free bytes on its disk."""
        return self._object("GET", "/v1/storage")

    def retry(self, job_id: str) -> Json:
        """Go on with a job that failed or was cancelled, from its last checkpoint."""
        return self._object("POST", f"/v1/jobs/{job_id}:retry")

    def candidates(self, job_id: str, limit: int = 50) -> list[dict[str, Any]]:
        """Best first."""
        found: list[dict[str, Any]] = self.call("GET", f"/v1/jobs/{job_id}/candidates", params={"limit": limit})
        return found

    def spaces(self, **sized: Any) -> list[dict[str, Any]]:
        """Spaces of students, with what they cost; `sized` says for which tasks: domain, classes, image_size …"""
        found: list[dict[str, Any]] = self.call("GET", "/v1/spaces", params=sized)
        return found

    def pretrained(self, **sized: Any) -> list[dict[str, Any]]:
        """Networks with weights that jobs may take for students, with what each costs; `sized` says at which size:
        classes, image_size, in_chans."""
        found: list[dict[str, Any]] = self.call("GET", "/v1/pretrained", params=sized)
        return found

    def pareto(self, job_id: str, against: str | None = None) -> Json:
        """Candidates no other one beats in both the score and a cost (`against`, or the one the search traded)."""
        params = {} if against is None else {"against": against}
        return self._object("GET", f"/v1/jobs/{job_id}/pareto", params=params)

    def add_profile(
        self, path: Path | str, *, name: str | None = None, wait_s: float = 600.0, listener: Listener | None = None
    ) -> Json:
        """Upload latencies `archsearch profile` measured and wait until a worker has fitted predictors to them.

        A budget's `device` is the id of what this returns.
        """
        params = {} if name is None else {"name": name}
        body = read_profile(Path(path)).model_dump(mode="json")
        profile = self._object("POST", "/v1/profiles", params=params, json=body)
        return self._checked("/v1/profiles", profile, wait_s, listener)

    def watch(self, job_id: str, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """A job's events as they happen, until it is over. A lost connection is taken up again where it broke."""
        patience = self._server.patience()
        while True:
            try:
                with self._events(job_id, after) as events:
                    for event in events:
                        patience.answered()
                        after = event["seq"]
                        yield event
                # A stream ends with its job; one that something in between cut off ends before it.
                if self.job(job_id)["status"] in TERMINAL and not self._more(job_id, after):
                    return
                raise Away(ServiceError(f"{self.url} ends its streams before the job does", status=0))
            except Away as away:
                patience.wait(away)

    def download(
        self, job_id: str, folder: Path | str, *, student: int | None = None, listener: Progress | None = None
    ) -> list[Path]:
        """Fetch a finished job's files into `folder` and check each one's sha256; returns their paths.

        What an earlier call left there is not fetched again: whole files stay, and the rest of a half one is asked for.
        The zip, which holds the same files again, is left out.

        Args:
            student: Of several, the number of the one to fetch. Without it all are: the first into the folder itself,
                the others into `students/2` and so on beneath it.
        """
        folder = Path(folder)
        # The server's name is used for the last part of a path only, whatever it says.
        wanted = [
            (artifact, where / Path(artifact["name"]).name)
            for where, artifact in self._artifacts(job_id, folder, student)
            if Path(artifact["name"]).name != "student.zip"
        ]
        before, total = 0, sum(artifact["size_bytes"] for artifact, _ in wanted)
        for artifact, path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            for size in fetch(self._server, artifact, path):
                if listener:
                    listener(before + size, total)
            before += artifact["size_bytes"]
        return [path for _, path in wanted]

    def _artifacts(self, job_id: str, folder: Path, student: int | None) -> Iterator[tuple[Path, Json]]:
        """A job's files, each with the folder it goes to."""
        path = f"/v1/jobs/{job_id}/artifacts"
        first: list[Json] = self.call("GET", path, params={} if student is None else {"student": student})
        yield from ((folder, artifact) for artifact in first)
        if student is None and any(artifact["name"] == "front.json" for artifact in first):
            for row in self.job(job_id)["result"]["students"]:
                if row["same_as"] is None and row["folder"] not in (None, "."):
                    number = int(row["student"])
                    beside: list[Json] = self.call("GET", path, params={"student": number})
                    yield from ((folder / STUDENTS / str(number), artifact) for artifact in beside)

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One request; the answer's JSON, or ServiceError with the problem the server sent."""
        return self._server.call(method, path, **kwargs)

    def _checked(self, path: str, row: Json, wait_s: float, listener: Listener | None = None) -> Json:
        """What a worker's check makes of a row; raises ServiceError when it is refused."""
        deadline, pause_s = time.monotonic() + wait_s, 0.1
        while row["status"] == "checking" and time.monotonic() < deadline:
            if listener:
                listener(row)
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 1.0)
            row = self._object("GET", f"{path}/{row['id']}")
        if row["status"] == "refused":
            raise ServiceError(row["error"]["detail"], status=422, body=row["error"])
        return row

    def _object(self, method: str, path: str, **kwargs: Any) -> Json:
        found: Json = self.call(method, path, **kwargs)
        return found

    def _more(self, job_id: str, after: int) -> bool:
        return bool(self.call("GET", f"/v1/jobs/{job_id}/events", params={"after": after}))

    @contextmanager
    def _events(self, job_id: str, after: int) -> Iterator[Iterator[dict[str, Any]]]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = httpx.Timeout(_SILENCE_S, connect=10.0)
        path = f"/v1/jobs/{job_id}/events"
        with self._server.stream("GET", path, headers=headers, timeout=timeout) as answer:
            yield _parse_events(answer.iter_lines())


def _parse_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.lstrip()
        elif "data" in fields:
            yield {"seq": int(fields["id"]), "type": fields["event"], "data": json.loads(fields["data"])}
            fields = {}


def fetch(server: Connection, artifact: Mapping[str, Any], path: Path) -> Iterator[int]:
    """Bring one artifact to `path`, whole or not at all; yields the bytes there are so far."""
    size, sha256 = artifact["size_bytes"], artifact["sha256"]
    if path.is_file() and path.stat().st_size == size and _sha256_of(path) == sha256:
        yield size
        return
    # Named by its content: a half of something else is nothing to go on with.
    partial = path.with_name(f".{path.name}.{sha256[:16]}.partial")
    patience = server.patience()
    try:
        while not partial.is_file() or partial.stat().st_size < size:
            try:
                for there in _append(server, artifact, partial):
                    patience.answered()
                    yield there
            except Away as away:
                patience.wait(away)
        if _sha256_of(partial) != sha256:
            partial.unlink()
            raise ServiceError(f"{artifact['name']} arrived damaged; download it again", status=0)
        os.replace(partial, path)
    except OSError as error:
        raise ArchsearchError(f"{path} cannot be written ({error.strerror})") from None


def _append(server: Connection, artifact: Mapping[str, Any], partial: Path) -> Iterator[int]:
    """Ask for what is missing of a half file, and append what comes."""
    there = partial.stat().st_size if partial.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers |= {"Range": f"bytes={there}-", "If-Range": f'"{artifact["sha256"]}"'}
    with server.stream("GET", f"/v1/artifacts/{artifact['id']}/content", headers=headers) as answer:
        if answer.status_code != 206:
            there = 0
        with partial.open("ab" if there else "wb") as out:
            for chunk in answer.iter_bytes(2**20):
                out.write(chunk)
                there += len(chunk)
                yield there
            if not there:  # an empty file is whole as soon as it is there
                yield 0
    if there < artifact["size_bytes"]:
        raise Away(ServiceError(f"{artifact['name']} ends before it is whole", status=0))


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _as_file(path: Path, only: Collection[str] | None = None) -> Iterator[Path]:
    """A file as it is, a folder as a zip of it, or of those files of it that are named."""
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield pack(path, Path(scratch) / f"{path.name or 'data'}.zip", only)


def _label(name: str) -> str:
    """A file's name as a server takes it: text of one line, however the file was named."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)[-255:]
