"""A finished student's folder, of whatever domain: which it is of, its network, and the task it was made for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.domains.domain import Domain
from archsearch.export.folder import load_config, require_student

if TYPE_CHECKING:
    from torch import nn


def domain_of(folder: Path | str) -> Domain:
    """Whose student a folder holds, as its `config.json` tells; of one that tells nothing, of images."""
    try:
        config: Any = load_config(folder)
    except (OSError, ValueError):  # its domain says best what is wrong with it
        config = {}
    return domains.of_config(config if isinstance(config, dict) else {})


def load_student(folder: Path | str) -> nn.Module:
    """The student of an exported folder, in eval mode, as its own library loads it; raises InvalidRequest."""
    return domain_of(folder).open(Path(folder))


def load_task(folder: Path | str) -> Any:
    """The task a folder's student was made for, as far as its files tell; raises InvalidRequest otherwise."""
    require_student(Path(folder))
    return domain_of(folder).open_task(Path(folder))
