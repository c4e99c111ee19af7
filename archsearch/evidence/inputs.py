"""What an example is to a network: numbers that gradients reach, or ids of tokens, some of them padding."""

# B batch, T tokens, D features

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.evidence.layers import first_tensor

if TYPE_CHECKING:
    from torch import Tensor, nn


def real_tokens(x: Tensor) -> Tensor | None:
    """Which of a batch's tokens are real, B×T; None of a batch that is not of tokens.

    Tokens come as integers B×2×T: ids, and the text of a pair each is of, which is −1 where there is only padding.
    """
    if x.is_floating_point() or x.ndim != 3:
        return None
    real_BT: Tensor = x[:, 1] >= 0
    return real_BT


class Leaf:
    """What input gradients of a batch are taken at, inside `with`: the numbers themselves, or where ids have become
    numbers, at the output of the network's `embeddings_module`.

    Args:
        wanted: Whether any gradient will be asked for.

    Attributes:
        x: What the network is to be called with.
    """

    def __init__(self, model: nn.Module, x: Tensor, *, wanted: bool) -> None:
        self.wanted = wanted
        self._embedded: Tensor | None = None
        self._model: Any = model
        self._hook: Any = None
        self.x = x.detach()
        if self.x.is_floating_point():
            self.x.requires_grad_(wanted)

    def __enter__(self) -> Leaf:
        if self.wanted and not self.x.is_floating_point():
            self._hook = self._model.embeddings_module.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    @property
    def value(self) -> Tensor:
        """B×…, reached by every gradient once the network was called."""
        if self.x.is_floating_point():
            return self.x
        assert self._embedded is not None, "the network was not called, or its embeddings were not"
        return self._embedded

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        embedded = first_tensor(output)
        if embedded.requires_grad:
            self._embedded = embedded
            return None
        # Frozen embeddings: what comes after them has gradients all the same.
        self._embedded = embedded.detach().requires_grad_()
        return (self._embedded, *output[1:]) if isinstance(output, tuple | list) else self._embedded
