"""Half precision where the machine computes in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]


def autocast(precision: Precision, device: str | torch.device = "cpu") -> AbstractContextManager[object]:
    """bf16 where asked for or, with `auto`, where the device computes in it; elsewhere it would be slower."""
    import torch

    kind = torch.device(device).type
    if precision == "fp32" or (precision == "auto" and not _has_bf16(kind)):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16)


def exact(device: str | torch.device) -> AbstractContextManager[object]:
    """Full precision inside `autocast`: Gram matrices, determinants and eigenvalues do not survive bf16."""
    import torch

    return torch.autocast(torch.device(device).type, enabled=False)


def _has_bf16(kind: str) -> bool:
    import torch

    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
