"""Networks with weights on this machine: in the hub's cache, in the folder set up for them, or handed in as teachers.

Nothing here imports torch: the API lists them, and checks what requests name.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.errors import InvalidRequest, UnknownName
from archsearch.request import (
    FolderNetwork,
    PretrainedNetwork,
    StockNetwork,
    TeacherNetwork,
    TimmTeacher,
    UploadedTeacher,
)
from archsearch.teacher_config import sides
from archsearch.teachers import check_source, index
from archsearch.teachers.hub import check_stock, require_repository

log = logging.getLogger(__name__)

_CACHED = "models--timm--"
_FILES = ("config.json", "model.safetensors")
# Where nothing says what size of images weights were trained on.
_ANY_SIDE = 224
FIELD = "search.pretrained"


@dataclass(frozen=True)
class Stored:
    """A network whose weights are on this machine.

    Attributes:
        named: As a request names it.
        source: What timm is asked for: a name of its own, or `local-dir:` and a folder.
        weights: The safetensors file.
        args: Of `timm.create_model`, where no config.json beside the weights has them.
        config: What timm's own configuration of the name says otherwise, likewise.
    """

    named: PretrainedNetwork
    source: str
    weights: Path
    args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.named.label


# A registered teacher's network, by its id; the field is for errors.
Registered = Callable[[str, str], Stored]


def at_hand(folder: Path | None) -> list[Stored]:
    """Every network that no hub has to be asked for: timm's own in the hub's cache, and those of a folder."""
    return [*in_cache(), *in_folder(folder)]


def in_cache() -> list[Stored]:
    """timm's own networks whose safetensors the hub's client has fetched before, by name."""
    from huggingface_hub import constants

    kept = Path(constants.HF_HUB_CACHE)
    names = sorted(path.name.removeprefix(_CACHED) for path in kept.glob(f"{_CACHED}*")) if kept.is_dir() else []
    found = ((name, _cached(name)) for name in names if name.partition(".")[0] in _architectures())
    return [Stored(StockNetwork(name=name), name, weights) for name, weights in found if weights is not None]


def in_folder(folder: Path | None) -> list[Stored]:
    """The networks of a folder, each in a folder of its own as timm saves one, by name."""
    if folder is None:
        return []
    if not folder.is_dir():
        log.warning("ARCHSEARCH_PRETRAINED_DIR is %s, which is no folder", folder)
        return []
    return [
        Stored(FolderNetwork(name=path.name), f"local-dir:{path}", path / "model.safetensors")
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and all((path / name).is_file() for name in _FILES)
    ]


def check_named(named: Sequence[PretrainedNetwork], folder: Path | None) -> None:
    """Raise UnknownName or InvalidRequest for a network that cannot be had, as far as that can be told without torch.

    Registered teachers are for whoever has their rows to tell.
    """
    for one, field in _fields(named):
        if isinstance(one, FolderNetwork):
            _of_folder(one, folder, field)
        elif isinstance(one, StockNetwork):
            check_source(TimmTeacher(name=one.name), field=field)
            if ":" not in one.name and one.name.partition(".")[0] not in _architectures():
                raise UnknownName("timm model", one.name, _architectures(), field=field)


def find(named: Sequence[PretrainedNetwork], folder: Path | None, registered: Registered) -> list[Stored]:
    """The networks a request names; what was not fetched from the hub yet is fetched.

    Args:
        registered: Finds the networks of registered teachers.

    Raises:
        UnknownName, InvalidRequest, TeacherError: There is no such network, or only as pickles.
        Unavailable: The hub does not answer.
    """
    check_named(named, folder)
    return [_found(one, folder, registered, field) for one, field in _fields(named)]


def none_registered(id: str, field: str) -> Stored:
    """`Registered` where there is no service."""
    raise InvalidRequest(f"{id} lives in a service; name a network of timm's, or one of the folder's", field=field)


def of_folder(named: PretrainedNetwork, folder: Path) -> Stored:
    """A network that lies in a folder as timm saves one."""
    return Stored(named, f"local-dir:{folder}", folder / "model.safetensors")


def of_upload(named: PretrainedNetwork, source: UploadedTeacher, weights: Path) -> Stored:
    """A network whose weights were uploaded alone, with what its config.json said."""
    in_chans, size = source.in_chans, sides(source.input_size or _ANY_SIDE)
    config: dict[str, Any] = {"num_classes": source.num_classes, "input_size": (in_chans, *size)}
    for name in ("mean", "std"):
        if getattr(source, name) is not None:
            config[name] = tuple(getattr(source, name))
    return Stored(named, source.architecture, weights, dict(source.model_args), config)


def _found(named: PretrainedNetwork, folder: Path | None, registered: Registered, field: str) -> Stored:
    if isinstance(named, FolderNetwork):
        return _of_folder(named, folder, field)
    if isinstance(named, TeacherNetwork):
        return registered(named.id, field)
    if ":" in named.name:
        path, _ = require_repository(named.name, field=field)
        return of_folder(named, path.parent)
    weights = _cached(named.name)
    return Stored(named, named.name, check_stock(named.name, None, field=field) if weights is None else weights)


def _of_folder(named: FolderNetwork, folder: Path | None, field: str) -> Stored:
    if folder is None:
        raise InvalidRequest(
            "no folder of networks is set up here: ARCHSEARCH_PRETRAINED_DIR is to name one", field=field
        )
    known = {stored.named.label: stored for stored in in_folder(folder)}
    if named.label not in known:
        raise UnknownName("network", named.label, known, field=field)
    return known[named.label]


def _cached(name: str) -> Path | None:
    """The safetensors of one of timm's names, if they were fetched before."""
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(f"timm/{name}", "model.safetensors")
    return Path(kept) if isinstance(kept, str) else None


def _architectures() -> frozenset[str]:
    """Those of timm's that take any classes and channels."""
    return frozenset(entry.architecture for entry in index.entries())


def _fields(named: Sequence[PretrainedNetwork]) -> Iterator[tuple[PretrainedNetwork, str]]:
    return ((one, f"{FIELD}.{i}") for i, one in enumerate(named))


__all__ = [
    "FIELD", "Registered", "Stored", "at_hand", "check_named", "find", "in_cache", "in_folder",
    "none_registered", "of_folder", "of_upload",
]  # fmt: skip
