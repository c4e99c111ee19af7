"""A zip of a folder that a network's own library saved: told of without unpacking it, and unpacked within bounds."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from archsearch import domains
from archsearch.data.archive import BROKEN, check_ratio, damaged, open_zip
from archsearch.data.at_rest import write_folder
from archsearch.data.files import is_junk
from archsearch.data.limits import Limits
from archsearch.errors import DataError, Gone, TeacherError, TooLarge
from archsearch.teachers.foreign import kind_of
from archsearch.teachers.source import check_onnx_file, describe_folder
from archsearch.zoos.image_networks import is_image_network

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FIX = "zip the folder the network's own library saved, with its config.json and model.safetensors"
# A teacher is a dozen files; an archive of a hundred thousand members is something else.
_MOST_MEMBERS = 1000
# Read by the API itself, many at a time perhaps.
_MOST_CONFIG_BYTES, _MOST_FILE_BYTES = 2**20, 64 * 2**20
# Weights hardly pack, and the files beside them are small: what unpacks to more is no teacher.
_RATIO, _FREE_BYTES = 8, 64 * 2**20

Members = Mapping[str, zipfile.ZipInfo]


def describe_archive(path: Path, *, field: str) -> dict[str, Any]:
    """What the config.json in a zip tells of a teacher, its domain first; reads no weights and needs no torch.

    Raises TeacherError or TooLarge for what is no such zip, and for a teacher that cannot be one.
    """
    with _opened(path, field) as (archive, members):
        config = _config(archive, members[CONFIG], field)
        domain = domains.of_config(config)
        return {"domain": domain.name, **domain.describe(config, members.keys(), field)}


def to_send(folder: Path) -> tuple[dict[str, Any], Path]:
    """Of a local folder or file what tells a server of it, and what is uploaded: the folder itself, timm's weights, or
    the ONNX file.

    Raises TeacherError for what is no teacher, before anything is sent.
    """
    if folder.is_file() and kind_of(folder) == "onnx":
        check_onnx_file(folder, field="teacher.path")
        return {"kind": "onnx"}, folder
    domain = domains.of_config(_local_config(folder))
    if is_image_network(_local_config(folder)):
        domain.describe(_local_config(folder), {path.name for path in folder.iterdir()}, "teacher.path")
        return {}, folder
    if domain.name == "image_classification":  # or no folder of anybody's, which timm's says best
        return describe_folder(folder), folder / WEIGHTS
    domain.describe(_local_config(folder), {path.name for path in folder.iterdir()}, "teacher.path")
    return {}, folder


def _local_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def unpack_archive(path: Path, folder: Path, *, field: str = "upload") -> None:
    """Write the files that teachers consist of to `folder`, whole or not at all; others in the zip are never read."""
    if folder.is_dir():
        return
    with _opened(path, field) as (archive, members):
        mine = {name: info for name, info in members.items() if name in domains.teacher_files()}
        write_folder(folder, lambda new: _write(archive, mine, new), lambda there: there.is_dir())


@contextmanager
def _opened(path: Path, field: str) -> Iterator[tuple[zipfile.ZipFile, Members]]:
    """The archive, and the members that lie where its config.json does, by their names there."""
    if not path.is_file():
        raise Gone("the zip is not there any more; upload it again", field=field)
    most = _RATIO * path.stat().st_size + _FREE_BYTES
    try:
        with open_zip(path, Limits(max_bytes=most, max_members=_MOST_MEMBERS), FIX) as archive:
            yield archive, _beside_config(archive)
    except (DataError, TooLarge) as error:
        where = "" if error.field == "path" else f"{error.field}: "
        kind = TooLarge if isinstance(error, TooLarge) else TeacherError
        raise kind(f"{where}{error.detail}", field=field) from None


def _beside_config(archive: zipfile.ZipFile) -> Members:
    files = {info.filename: info for info in archive.infolist() if not info.is_dir() and not is_junk(info.filename)}
    configs = sorted((name.count("/"), name) for name in files if PurePosixPath(name).name == CONFIG)
    if not configs:
        raise DataError(f"holds no {CONFIG} that says of which network it is; {FIX}", field="path")
    if len(configs) > 1 and configs[0][0] == configs[1][0]:
        raise DataError(f"holds two teachers, {configs[0][1]} and {configs[1][1]}; zip one", field="path")
    root = configs[0][1].removesuffix(CONFIG)
    here = {name.removeprefix(root): info for name, info in files.items() if name.startswith(root)}
    return {name: info for name, info in here.items() if "/" not in name}


def _config(archive: zipfile.ZipFile, info: zipfile.ZipInfo, field: str) -> dict[str, Any]:
    if info.file_size > _MOST_CONFIG_BYTES:
        raise TeacherError(f"{CONFIG} has {info.file_size:,} bytes, too many for a configuration", field=field)
    try:
        with archive.open(info) as stream:
            config = json.loads(stream.read(_MOST_CONFIG_BYTES))
    except BROKEN as error:
        raise damaged(CONFIG, error) from None
    except (ValueError, RecursionError) as error:
        raise TeacherError(f"{CONFIG} cannot be read: {error}", field=field) from None
    if not isinstance(config, dict):
        raise TeacherError(f"{CONFIG} holds no mapping, and is no configuration", field=field)
    return config


def _write(archive: zipfile.ZipFile, members: Members, folder: Path) -> None:
    folder.mkdir()
    for name, info in members.items():
        if name != WEIGHTS and info.file_size > _MOST_FILE_BYTES:
            raise TooLarge(f"has {info.file_size:,} bytes, at most {_MOST_FILE_BYTES:,} are read", field=name)
        check_ratio(info, Limits())
        try:
            # zipfile stops at the declared size, which is bounded, and compares checksums there.
            with archive.open(info) as stream, (folder / name).open("xb") as file:
                shutil.copyfileobj(stream, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
        except zipfile.BadZipFile as error:
            raise damaged(name, error) from None
