"""The data folder: where uploads, data sets, checkpoints and artifacts lie. Names come from ids, never from clients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


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

    def unpacked(self, upload_id: str) -> Path:
        """The folder a teacher's zip holds; it goes where the upload goes."""
        return self.root / "uploads" / upload_id / "folder"

    def dataset(self, dataset_id: str) -> Path:
        return self.root / "datasets" / dataset_id

    def job(self, job_id: str) -> Path:
        return self.root / "jobs" / job_id

    def artifact(self, path: str) -> Path:
        """An artifact's file, from the path its row keeps relative to the data folder."""
        return self.root / path

    def relative(self, path: Path) -> str:
        return str(path.resolve().relative_to(self.root))

    def upload_lock(self, upload_id: str) -> Path:
        return self.root / "uploads" / upload_id / "lock"

    def upload_parts(self, upload_id: str) -> Path:
        return self.root / "uploads" / upload_id / "parts"

    def part(self, upload_id: str, number: int) -> Path:
        folder = self.upload_parts(upload_id)
        # Raised where the folder goes between two looks of `mkdir`: its upload was completed at this moment.
        with suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number:06d}"

    def upload_part_list(self, upload_id: str) -> list[Path]:
        """The parts that have arrived, in order."""
        folder = self.upload_parts(upload_id)
        return sorted(path for path in folder.glob("[0-9]*") if path.name.isdigit()) if folder.is_dir() else []

    def uploaded_bytes(self, upload_id: str, *, without: int | None = None) -> int:
        """Bytes in the parts that have arrived, except part `without`, which is about to be replaced."""
        total, replaced = 0, f"{without or 0:06d}"
        for part in self.upload_part_list(upload_id):
            with suppress(FileNotFoundError):  # a request that completes the upload removes them meanwhile
                total += part.stat().st_size if part.name != replaced else 0
        return total


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
