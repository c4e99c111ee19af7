"""Examples that networks are looked at with, and the places in them that count."""

# B batch, C channels, D features, H W space, K classes, M samples, P places of an example, T tokens

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Shown:
    """Some examples, as students are shown them.

    Attributes:
        tokens_BT: Which of an example's tokens are any: padding does not count. None where all places do.
    """

    x: Tensor
    tokens_BT: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> Shown:
        tokens_BT = None if self.tokens_BT is None else self.tokens_BT.to(device)
        return replace(self, x=self.x.to(device), tokens_BT=tokens_BT)

    def answers(self, model: nn.Module) -> Tensor:
        """Logits B×K of a network that lies where the examples do."""
        with unlearned(model):
            logits_BK: Tensor = model(self.x)
        return logits_BK

    def counting(self, y: Tensor) -> Tensor | None:
        """B×P: which places count of a layer's input or output in rows (B×P×C); None where all do."""
        tokens_BT = self.tokens_BT
        return tokens_BT if tokens_BT is not None and y.shape[:2] == tokens_BT.shape else None

    def samples(self, y_BPC: Tensor, most: int) -> Tensor:
        """M×C: what there is at places that are drawn by the shapes alone, M at most, example after example."""
        import torch

        counts_BP, (places, device) = self.counting(y_BPC), (y_BPC.shape[1], y_BPC.device)
        if counts_BP is None:
            number_M = torch.arange(len(y_BPC) * places)
        else:
            number_M = counts_BP.flatten().nonzero().flatten().cpu()
        if len(number_M) > most:
            draw = torch.Generator().manual_seed(len(number_M))
            number_M = number_M[torch.randperm(len(number_M), generator=draw)[:most].sort().values]
        number_M = number_M.to(device)
        return y_BPC[number_M // places, number_M % places]


def in_rows(module: nn.Module, y: Tensor) -> Tensor:
    """B×P×C: what a layer reads or writes, place after place: a convolution's B×C×H×W, a linear layer's B×…×D."""
    from torch import nn

    y = y.detach().float()
    if isinstance(module, nn.Conv2d):
        return y.flatten(2).transpose(1, 2)
    return y.unsqueeze(1) if y.ndim == 2 else y.flatten(1, -2)


@contextmanager
def unlearned(model: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients, and afterwards as before."""
    import torch

    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before.items():
            module.training = training
