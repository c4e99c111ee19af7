"""Folders that a student's files are put into: what somebody else left there is not written over without a word."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from pathlib import Path

import click

from archsearch.errors import InvalidRequest
from archsearch.export.files import WEIGHTS
from archsearch.outfolder import MANIFEST
from archsearch.whole import read_kept

overwrite_option = click.option("--overwrite", is_flag=True, help="Write over what lies in the folder.")


def check_copied(source: Path, out: Path, *, overwrite: bool) -> None:
    """Raise InvalidRequest where `out` holds anything but an earlier copy of the student in `source`."""
    _check(out, lambda: (out / WEIGHTS).is_file() and filecmp.cmp(source / WEIGHTS, out / WEIGHTS, False), overwrite)


def check_fetched(job_id: str, out: Path, *, overwrite: bool) -> None:
    """Raise InvalidRequest where `out` holds anything but what an earlier download of this job left, perhaps a half."""
    _check(out, lambda: _job_of(out) == job_id or any(out.glob(".*.partial")), overwrite)


def _check(out: Path, ours: Callable[[], bool], overwrite: bool) -> None:
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if names and not overwrite and not ours():
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise InvalidRequest(
            f"{out} holds files that are not this student's ({shown}); choose another folder, or take this one with "
            "--overwrite",
            field="--out",
        )


def _job_of(folder: Path) -> object:
    manifest = read_kept(folder / MANIFEST)
    return manifest.get("job") if isinstance(manifest, dict) else None
