"""The data folder: where uploads, data sets, checkpoints and artifacts lie. Names come from ids, never from clients."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from archsearch.errors import Conflict, InvalidRequest, TooLarge


class Files:
    """Paths below one data folder, and the few moves made there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        for name in ("uploads", "datasets", "jobs", "workers"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    @property
    def workers(self) -> Path:
        """Liveness locks, one file a worker."""
        return self.root / "workers"

    @property
    def evidence(self) -> Path:
        """What teachers show on scoring batches, one file each; whatever is missing is made again."""
        return self.root / "evidence"

    def upload(self, upload_id: str) -> Path:
        return self.root / "uploads" / upload_id / "content"

    def dataset(self, dataset_id: str) -> Path:
        return self.root / "datasets" / dataset_id

    def job(self, job_id: str) -> Path:
        return self.root / "jobs" / job_id

    def artifact(self, path: str) -> Path:
        """An artifact's file, from the path its row keeps relative to the data folder."""
        return self.root / path

    def relative(self, path: Path) -> str:
        return str(path.resolve().relative_to(self.root))

    def part(self, upload_id: str, number: int) -> Path:
        folder = self.root / "uploads" / upload_id / "parts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number:06d}"

    def uploaded_bytes(self, upload_id: str, *, without: int | None = None) -> int:
        """Bytes in the parts that have arrived, except part `without`, which is about to be replaced."""
        return sum(part.stat().st_size for part in self._parts(upload_id) if part.name != f"{without or 0:06d}")

    def complete_upload(self, upload_id: str, expected_sha256: str | None, limit: int) -> tuple[int, str]:
        """Join the parts in order; returns size in bytes and sha256, and refuses gaps, excess and other content."""
        folder = self.root / "uploads" / upload_id
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("another request is completing this upload") from None
            return self._join(upload_id, expected_sha256, limit)

    def _join(self, upload_id: str, expected_sha256: str | None, limit: int) -> tuple[int, str]:
        parts = self._parts(upload_id)
        if not parts:
            raise Conflict("no part has arrived; PUT at least part 1 first")
        numbers = [int(part.name) for part in parts]
        if numbers != list(range(1, len(numbers) + 1)):
            missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
            raise Conflict(f"parts are missing: {', '.join(map(str, missing[:10]))}")
        if (size := sum(part.stat().st_size for part in parts)) > limit:
            raise TooLarge(f"{size:,} bytes are more than the {limit:,} this server takes")
        digest = hashlib.sha256()
        whole = self.upload(upload_id)
        partial = whole.with_suffix(".partial")
        with partial.open("wb") as out:
            for chunk in (chunk for part in parts for chunk in chunks(part)):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if expected_sha256 is not None and digest.hexdigest() != expected_sha256.lower():
            partial.unlink()
            raise InvalidRequest(f"the content's sha256 is {digest.hexdigest()}, not the one given", field="sha256")
        os.replace(partial, whole)
        shutil.rmtree(whole.parent / "parts")
        return size, digest.hexdigest()

    def _parts(self, upload_id: str) -> list[Path]:
        folder = self.root / "uploads" / upload_id / "parts"
        return sorted(path for path in folder.glob("[0-9]*") if path.name.isdigit()) if folder.is_dir() else []


def chunks(path: Path, size: int = 2**20) -> Iterator[bytes]:
    """A file's content in pieces of `size` bytes."""
    with path.open("rb") as file:
        while chunk := file.read(size):
            yield chunk


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(path):
        digest.update(chunk)
    return digest.hexdigest()
