"""What can be refused without torch: pickles, prefixes that read this machine's disk, arguments that are not sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsearch.errors import Gone, InvalidRequest, TeacherError
from archsearch.request import TimmTeacher, UploadedTeacher
from archsearch.teacher_config import FORBIDDEN_ARGS, teacher_fields
from archsearch.teachers.folder import check_folder
from archsearch.teachers.foreign import describe_bytes, kind_of, refuse_file_name
from archsearch.teachers.size import check_counts

_LARGEST_ARG = 65_536
# A tensor takes some hundred bytes of it, and timm's largest networks have a few thousand.
_LARGEST_HEADER_BYTES = 4 * 2**20


def check_weights_file(path: Path, *, field: str = "upload") -> int:
    """Raise TeacherError unless the file is whole safetensors; returns how many tensors it holds.

    Needs no torch and reads only the header, once its size is one that a network's weights have.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise Gone("the weights are not there any more; upload them again", field=field)
    kind = kind_of(path)
    if kind in ("torch", "pickle"):
        raise TeacherError(
            "these are pickled PyTorch weights, which can run code when read; save them with "
            "safetensors.torch.save_file(model.state_dict(), path) and upload that, or run `archsearch convert FILE "
            "--out teacher` where they are and upload its model.safetensors with its config.json",
            field=field,
        )
    if kind not in ("safetensors", "empty", "unknown"):
        raise TeacherError(f"this is {describe_bytes(kind)}", field=field)
    _check_header_size(path, field)
    try:
        with safe_open(path, framework="np") as weights:
            tensors = len(list(weights.keys()))
    except SafetensorError as error:
        raise TeacherError(f"not a whole safetensors file ({error}); was the upload cut short?", field=field) from None
    if not tensors:
        raise TeacherError("the safetensors file holds no tensors", field=field)
    return tensors


def check_source(source: TimmTeacher | UploadedTeacher, *, field: str = "source") -> None:
    """What can be refused without torch: prefixes that read this machine's disk, arguments that are not sizes."""
    where, name = ("name", source.name) if isinstance(source, TimmTeacher) else ("architecture", source.architecture)
    prefix, colon, _ = name.partition(":")
    allowed = ("hf-hub", "hf_hub") if isinstance(source, TimmTeacher) else ()
    if colon and prefix not in allowed:
        raise InvalidRequest(f"{prefix}: names no timm model a client may ask for", field=f"{field}.{where}")
    refuse_file_name(name, field=f"{field}.{where}")
    if isinstance(source, UploadedTeacher):
        _check_args(source.model_args, f"{field}.model_args")
        check_counts(source.model_args, f"{field}.model_args")


def describe_folder(folder: Path) -> dict[str, Any]:
    """The fields of an `UploadedTeacher` (all but `upload`) that a timm `local-dir:` folder's config.json holds."""
    config = check_folder(folder, field="teacher.path")
    try:
        return teacher_fields(config)
    except ValueError as error:
        raise TeacherError(f"{folder}/config.json: {error}", field="teacher.path") from None


def _check_header_size(path: Path, field: str) -> None:
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(8), "little")
    # One that ends behind the file was cut short, or is none.
    if _LARGEST_HEADER_BYTES < declared <= path.stat().st_size:
        raise TeacherError(
            f"the safetensors header has {declared:,} bytes, more than the {_LARGEST_HEADER_BYTES:,} of any "
            "network; save the model's weights alone",
            field=field,
        )


def _check_args(args: Mapping[str, Any], field: str) -> None:
    for name, value in args.items():
        if name in FORBIDDEN_ARGS:
            raise InvalidRequest("is not yours to set; use the fields beside model_args", field=f"{field}.{name}")
        _check_value(value, f"{field}.{name}")


def _check_value(value: Any, field: str) -> None:
    if isinstance(value, list) and len(value) <= 64:
        for item in value:
            _check_value(item, field)
    elif isinstance(value, bool) or (isinstance(value, str) and len(value) <= 64 and "/" not in value):
        return
    elif not isinstance(value, int | float) or not abs(value) <= _LARGEST_ARG:
        raise InvalidRequest(
            f"{value!r} is no size: numbers up to {_LARGEST_ARG}, short words, booleans and lists of them", field=field
        )
