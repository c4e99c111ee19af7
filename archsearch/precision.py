"""Half precision where the machine computes in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from archsearch.errors import InvalidRequest

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def autocast(precision: Precision, device: str | torch.device = "cpu") -> AbstractContextManager[object]:
    """Half precision where asked for or, with `auto`, bf16 where the device computes in it; elsewhere it is slower."""
    import torch

    kind = torch.device(device).type
    found = resolve(precision, kind)
    if found == "fp32":
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16 if found == "bf16" else torch.float16)


def resolve(precision: Precision, device: str) -> Literal["fp32", "bf16", "fp16"]:
    """What `auto` means on a device; raises InvalidRequest for fp16 without a GPU."""
    if precision == "auto":
        return "bf16" if _has_bf16(device) else "fp32"
    if precision == "fp16" and device != "cuda":
        raise InvalidRequest("fp16 needs a GPU; take bf16, fp32 or auto here", field="precision")
    return precision


def exact(device: str | torch.device) -> AbstractContextManager[object]:
    """Full precision inside `autocast`: Gram matrices, determinants and eigenvalues do not survive bf16."""
    import torch

    return torch.autocast(torch.device(device).type, enabled=False)


def _has_bf16(kind: str) -> bool:
    import torch

    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
