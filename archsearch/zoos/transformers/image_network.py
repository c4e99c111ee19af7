"""A stock image classifier of the transformers library, as the rooms between ask any network: pixels in, logits out."""

# B batch, C channels, H W space, N tokens, D features, K classes

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archsearch.errors import TeacherError
from archsearch.evidence.layers import first_tensor

# Fields of a configuration that say nothing of the network.
_ASIDE = frozenset(
    ["architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "id2label", "label2id"]
)
# The list of a network's layers or stages, by the ends of its name; of several the outermost.
_LISTS = ("encoder.stages", "encoder.layers", "encoder.layer", "layers", "stages", "layer", "blocks")
_MOST_PREFIX = 8


class ImageClassifier(nn.Module):
    """A stock `AutoModelForImageClassification` that speaks of its parts as timm's networks do.

    Attributes:
        network: The stock network.
        num_classes: Answers it gives.
        num_features: D of what enters its last layer.
        feature_info: Its stages, where it has a list of layers or stages whose outputs are maps or tokens.
        num_prefix_tokens: Tokens before those that lie on the image's grid.
    """

    def __init__(self, network: nn.Module, in_chans: int, hw: tuple[int, int]) -> None:
        """Wrap a network; it is tried on one image of `hw` pixels.

        Raises:
            TeacherError: It has no linear layer at its end, or takes no such image.
        """
        super().__init__()
        self.network = network
        config: Any = network.config
        self._model_args = {name: value for name, value in config.to_dict().items() if name not in _ASIDE}
        self.in_chans = in_chans
        self._head = _head_name(network, config.num_labels)
        head = self.get_classifier()
        self.num_classes, self.num_features = head.out_features, head.in_features
        self.feature_info, self.num_prefix_tokens = self._stages(torch.zeros(1, in_chans, *hw))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.network(pixel_values=x_BCHW).logits
        return logits_BK

    def get_classifier(self) -> nn.Linear:
        head: nn.Linear = self.network.get_submodule(self._head)  # type: ignore[assignment]
        return head

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new linear layer at its end."""
        parent, _, name = self._head.rpartition(".")
        head = nn.Linear(self.num_features, num_classes)
        setattr(self.network.get_submodule(parent), name, head)
        self.num_classes = num_classes

    def _stages(self, x_1CHW: Tensor) -> tuple[list[dict[str, Any]], int]:
        """What its layers or stages put out, told by one image."""
        modules = _layers(self.network)
        shapes: dict[str, tuple[int, ...]] = {}

        def keep(name: str) -> Any:
            def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if isinstance(shown := first_tensor(output), Tensor):
                    shapes[name] = tuple(shown.shape)

            return look

        hooks = [module.register_forward_hook(keep(name)) for name, module in modules]
        try:
            with torch.no_grad():
                self(x_1CHW)
        except (ValueError, RuntimeError, AssertionError) as error:
            size = "×".join(map(str, x_1CHW.shape[2:]))
            detail = f"the network does not take images of {size} pixels ({' '.join(str(error).split())[:200]})"
            raise TeacherError(f"{detail}; say teacher.input_size", field="teacher.input_size") from None
        finally:
            for hook in hooks:
                hook.remove()
        found = [_described(f"network.{name}", shapes[name], x_1CHW.shape[2]) for name, _ in modules if name in shapes]
        known = [each for each in found if each is not None]
        tokens = [shape[1] for shape in shapes.values() if len(shape) == 3]
        return (known, _prefix(tokens)) if len(known) == len(modules) else ([], 0)


def _head_name(network: nn.Module, classes: int) -> str:
    """The name of the last linear layer, which answers."""
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    last = next(reversed(linear), "")
    heads = [name for name, module in linear.items() if module.out_features == classes]
    ends: list[str] = [name for name in heads if "classifier" in name or name == last]
    if len(ends) != 1:
        raise TeacherError(
            f"a {type(network).__name__} has {len(ends) or 'no'} linear layers that answer; take a network with one",
            field="teacher",
        )
    return ends[0]


def _layers(network: nn.Module) -> Sequence[tuple[str, nn.Module]]:
    """The modules of its list of layers or stages, by name."""
    lists = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    for end in _LISTS:
        found = sorted((name for name in lists if name.endswith(f".{end}")), key=lambda name: name.count("."))
        if found:
            return [(f"{found[0]}.{i}", each) for i, each in enumerate(network.get_submodule(found[0]).children())]
    return []


def _described(name: str, shape: tuple[int, ...], height: int) -> dict[str, Any] | None:
    """A stage as timm names one; None of what is neither a map nor tokens."""
    if len(shape) == 4:
        return {"module": name, "num_chs": shape[1], "reduction": max(1, height // max(1, shape[2]))}
    return {"module": name, "num_chs": shape[2], "reduction": 1} if len(shape) == 3 else None


def _prefix(tokens: Sequence[int]) -> int:
    """How many tokens stand before a square of them: the class token and the like."""
    if not tokens:
        return 0
    beyond = tokens[-1] - math.isqrt(tokens[-1]) ** 2
    return beyond if beyond <= _MOST_PREFIX else 0
