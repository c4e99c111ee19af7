"""The teacher's evidence on disk: one teacher, one data set and one batch are looked at once, whatever the jobs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from archsearch.evidence.evidence import NetworkEvidence, Read
from archsearch.whole import write_whole

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# Raise it when the same teacher and batch would give other evidence.
_VERSION = 1


def keep(
    folder: Path | None,
    teacher: str,
    data_sha256: str,
    batch: tuple[int, int],
    reads: Set[Read],
    make: Callable[[], NetworkEvidence],
    *,
    device: str = "cpu",
) -> NetworkEvidence:
    """What `make` returns, or what it returned before.

    Args:
        folder: Where evidence lies, a safetensors file each; None keeps nothing.
        teacher: What tells it from others: the hash of its weights, and how it is shown images.
        data_sha256: Of the data set, all splits.
        batch: Seed and size of the batch drawn from it.
        reads: What is read of the students, on which the teacher's share depends.
        make: Looks at the teacher.
        device: What tells the numbers of where it is looked at from another's.

    A file that cannot be read is made again; one that cannot be written is a warning: the search goes on without it.
    """
    if folder is None:
        return make()
    # A processor's have no name for it: they were kept before there was anywhere else.
    elsewhere = [] if device == "cpu" else [device]
    identity = json.dumps([_VERSION, teacher, data_sha256, *batch, sorted(reads), *elsewhere])
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.safetensors"
    found = _read(path)
    if found is None:
        found = make()
        _write(path, found)
    return found


def _read(path: Path) -> NetworkEvidence | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        grams_BB = tuple(tensors[f"gram{i}"] for i in range(sum(name.startswith("gram") for name in tensors)))
        return NetworkEvidence(tensors["logits"], grams_BB, tensors.get("head_gradient"), tensors.get("ntk"))
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError) as error:
        log.warning("%s cannot be read and is made again: %s", path, error)
        return None


def _write(path: Path, evidence: NetworkEvidence) -> None:
    from safetensors.torch import save

    tensors: dict[str, Tensor | None] = {f"gram{i}": gram_BB for i, gram_BB in enumerate(evidence.grams_BB)}
    tensors |= {"logits": evidence.logits_BK, "head_gradient": evidence.head_gradient_KD, "ntk": evidence.ntk_BB}
    content = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items() if tensor is not None})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        log.warning("the teacher's evidence cannot be kept in %s: %s", path.parent, error)
