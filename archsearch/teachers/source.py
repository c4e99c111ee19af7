"""What can be refused without torch: pickles, prefixes that read this machine's disk, arguments that are not sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from archsearch.errors import Gone, InvalidRequest, TeacherError, TooLarge
from archsearch.request import TimmTeacher, UploadedTeacher
from archsearch.teacher_config import FORBIDDEN_ARGS, teacher_fields
from archsearch.teachers.folder import check_folder
from archsearch.teachers.foreign import AS_SAFETENSORS, describe_bytes, kind_of, refuse_file_name
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
            f"these are pickled PyTorch weights, which can run code when read; {AS_SAFETENSORS}, and upload that; or "
            "run `archsearch convert FILE --out teacher` there, which finds the architecture, too (or takes it: --timm "
            "resnet18), and upload its model.safetensors with its config.json",
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


# Of protobuf itself: a message is smaller than 2 GiB.
_LARGEST_ONNX_BYTES = 2**31 - 1
# Fields of an ONNX file as a whole: version, producer, domain, model version, documentation, graph, operator sets,
# metadata, training, functions, devices.
# A message per metadata text, function and operator set.
_MOST_FIELDS = 100_000
_ONNX_FIELDS, _ONNX_GRAPH = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}), 7


def check_onnx_file(path: Path, *, field: str = "upload") -> None:
    """Raise TeacherError unless the file is an ONNX model as a whole; what is in its graph is for a worker to say.

    Needs neither torch nor onnx: it steps over the file's few fields and reads none of them.
    """
    if not path.is_file():
        raise Gone("the ONNX file is not there any more; upload it again", field=field)
    kind, size = kind_of(path), path.stat().st_size
    if kind != "onnx":
        what = "PyTorch weights, or whatever else is pickled" if kind in ("torch", "pickle") else describe_bytes(kind)
        raise TeacherError(f"this is no ONNX file but {what}", field=field)
    if size > _LARGEST_ONNX_BYTES:
        raise TooLarge(f"the ONNX file has {size:,} bytes, at most {_LARGEST_ONNX_BYTES:,} can be one", field=field)
    with path.open("rb") as file:
        numbers = list(_fields(file, size))
    if not _ONNX_FIELDS.issuperset(numbers) or _ONNX_GRAPH not in numbers:
        raise TeacherError("not a whole ONNX file; was the upload cut short?", field=field)


def _fields(file: BinaryIO, size: int) -> Iterator[int]:
    """The numbers of a protobuf's fields, one after the other; 0 where it is none, or ends too early."""
    seen = 0
    while (at := file.tell()) < size:
        key = _varint(file)
        number, wire = key >> 3, key & 7
        length = _varint(file) if wire in (0, 2) else {1: 8, 5: 4}.get(wire, -1)
        behind = file.tell() + (0 if wire == 0 else length)
        seen += 1
        if not number or length < 0 or behind > size or behind <= at or seen > _MOST_FIELDS:
            yield 0
            return
        yield number
        file.seek(behind)


def _varint(file: BinaryIO) -> int:
    """A number in sevens of bits; -1 where it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = file.read(1) or (0x80,)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    return -1
