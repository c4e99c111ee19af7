"""Small networks of every family that students are cut out of, with weights as training leaves them: none at rest."""

# B batch, C channels, H W space, T tokens

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.domains.images.task import ImageTask
from archsearch.domains.text.task import TextTask
from archsearch.inherit import importance
from archsearch.inherit.families import layout
from archsearch.inherit.shown import Shown
from archsearch.inherit.slices import Whole
from archsearch.request import Architecture
from archsearch.spaces import Space, of_teacher

EXAMPLES = 12
_OF_BERT = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
_ALL = {"vocab_size": 50, "max_position_embeddings": 20, "pad_token_id": 0}
_DISTIL = {"n_layers": 3, "n_heads": 4, "dim": 32, "hidden_dim": 48}


@dataclass(frozen=True)
class Family:
    """One family's network.

    Attributes:
        side: Pixels; 0 for texts.
        smaller: Arguments of a smaller one, where no space knows the family.
        normed: Whether the residual stream is normalised over its channels, so that none can be left out without a
            trace.
        coupled: Whether what is inside the blocks is, too.
    """

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    side: int = 32
    smaller: Mapping[str, Any] = field(default_factory=dict)
    normed: bool = False
    coupled: bool = False

    @property
    def task(self) -> Any:
        if self.side:
            return ImageTask(5, 3, self.side, self.side, (0.5,) * 3, (0.25,) * 3)
        pad = self.args["pad_token_id"]
        return TextTask(3, 9, 50, pad, pair=False)

    def build(self, **changes: Any) -> nn.Module:
        args = {**self.args, **changes}
        if self.side:
            model: nn.Module = timm.create_model(self.name, num_classes=5, **args)
            return model
        from archsearch.zoos.transformers.network import build

        return build(self.name, args, self.task)


_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}
_SIZES = {"depths": [2, 1, 3, 1], "dims": [16, 16, 24, 32], "kernel_sizes": [3, 3, 3, 3]}
_MOBILE = [
    ["ds_r1_k3_s1_e1_c16_nre"],
    ["ir_r3_k3_s2_e3_c24_nre"],
    ["ir_r3_k5_s2_e2_c24_se0.25", "ir_r1_k3_s1_e4_c24_se0.25"],
    ["ir_r2_k3_s1_e2_c32_se0.25"],
    ["cn_r1_k1_s1_c48"],
]
_EFFICIENT = [["cn_r2_k3_s1_e1_c16_skip"], ["er_r2_k3_s2_e2_c16"], ["ir_r3_k3_s2_e2_c24_se0.25"]]
FAMILIES: dict[str, Family] = {
    "cifar_resnet": Family("cifar_resnet", {"depths": [3, 2, 3], "widths": [8, 16, 24]}, 16),
    "resnet18": Family("resnet18", {"layers": [2, 1, 3, 1], "channels": [64, 16, 24, 32]}, 64),
    "resnet50": Family("resnet50", {"layers": [2, 1, 2, 2], "channels": [16, 16, 16, 24]}, 64),
    "resnext": Family("resnext50_32x4d", {"layers": [1, 2, 1, 2], "channels": [16, 32, 32, 64]}, 64),
    "resnet18d": Family("resnet18d", {"layers": [2, 2, 1, 1], "channels": [32, 16, 24, 32]}, 64),
    "seresnet18": Family("seresnet18", {"layers": [2, 2, 1, 2], "channels": [64, 16, 24, 256]}, 64),
    "resnet_small": Family("resnet_small", {"layers": [2, 2, 1, 2], "channels": [16, 16, 24, 32], "stem_chs": 16}, 16),
    "small bottlenecks": Family(
        "resnet_small",
        {"block": "bottleneck", "layers": [1, 2, 1, 2], "channels": [16, 16, 16, 24], "stem_chs": 16},
        16,
    ),
    "regnetx": Family("regnetx_002", {}, 64),
    "regnety": Family("regnety_002", {}, 64),
    "regnet_small": Family(
        "regnet_small",
        {"depth": 9, "w0": 16, "wa": 10.0, "wm": 2.0, "se_ratio": 0.25},
        16,
        {"depth": 9, "w0": 8, "wa": 5.0, "wm": 2.0, "se_ratio": 0.25},
    ),
    "mobilenetv3": Family("mobilenetv3_small_100", {}, 64),
    "efficientnet_lite": Family("tf_efficientnet_lite0", {}, 64),
    "mobilenet_blocks": Family("mobilenet_blocks", {"stages": _MOBILE, "stem_size": 16, "num_features": 64}, 32),
    "efficientnet_blocks": Family(
        "efficientnet_blocks", {"stages": _EFFICIENT, "stem_size": 16, "num_features": 64}, 32
    ),
    "convnext": Family("convnext_atto", _SIZES, 64, normed=True),
    "convnext of linear layers": Family("convnext_tiny", _SIZES, 64, normed=True),
    "convnextv2": Family("convnextv2_atto", _SIZES, 64, normed=True, coupled=True),
    "vit": Family("vit_tiny_patch16_224", {**_VIT, "class_token": False, "global_pool": "avg"}, normed=True),
    "deit": Family("deit_tiny_patch16_224", _VIT, normed=True),
    "deit3": Family("deit3_small_patch16_224", _VIT, normed=True),
    "bert": Family("bert", {**_ALL, **_OF_BERT}, 0, normed=True),
    "roberta": Family("roberta", {**_ALL, **_OF_BERT, "pad_token_id": 1, "type_vocab_size": 1}, 0, normed=True),
    "electra": Family("electra", {**_ALL, **_OF_BERT, "embedding_size": 20}, 0, normed=True),
    "electra, not projected": Family("electra", {**_ALL, **_OF_BERT, "embedding_size": 32}, 0, normed=True),
    "distilbert": Family("distilbert", {**_ALL, **_DISTIL}, 0, normed=True),
}
# One of each way of hanging together; the others are slow.
_SHORT = {"cifar_resnet", "convnext", "vit"}


def some(name: str, *others: Any) -> Any:
    """A case of a test, slow unless its family is one of few."""
    return pytest.param(name, *others, marks=() if name in _SHORT else pytest.mark.slow)


NAMES = [some(name) for name in FAMILIES]


def shake(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights as training leaves them: no scale at nothing or one, no norm's statistics at rest."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            drawn = torch.rand(value.shape, generator=draw)
            if value.ndim > 1:  # loud enough for what is inside to be heard at the end
                value.copy_(torch.randn(value.shape, generator=draw) * (1.5 / value[0].numel() ** 0.5))
            if name.endswith("running_var") or (value.ndim == 1 and not name.endswith(("bias", "running_mean"))):
                value.copy_(0.5 + drawn)
            elif value.ndim == 1:
                value.copy_(drawn - 0.5)
    return model.eval()


def examples(family: Family, count: int = EXAMPLES, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    if family.side:
        return torch.randn(count, 3, family.side, family.side, generator=draw)
    x_B2T = torch.randint(2, 50, (count, 2, 9), generator=draw)
    x_B2T[:, 1] = 0
    for row, length in enumerate(torch.randint(4, 10, (count,), generator=draw).tolist()):
        x_B2T[row, 0, length:], x_B2T[row, 1, length:] = family.args["pad_token_id"], -1
    return x_B2T


def shown(model: nn.Module, x: Tensor) -> Shown:
    tokens = layout(model).tokens
    return Shown(x, None if tokens is None else tokens(x))


@cache
def teacher_of(name: str) -> nn.Module:
    torch.manual_seed(1)
    return shake(FAMILIES[name].build())


@cache
def whole_of(name: str) -> Whole:
    model = teacher_of(name)
    return look(model, examples(FAMILIES[name]))


def look(model: nn.Module, x: Tensor) -> Whole:
    drawn, seen = layout(model), shown(model, x)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return Whole(state, drawn, importance.channels(model, drawn, seen), importance.order(model, drawn, seen))


@cache
def space_of(name: str) -> Space:
    return of_teacher(teacher_of(name), FAMILIES[name].task, whole_of(name).order)


def members(name: str, count: int, seed: int = 0, **fixed: int) -> list[tuple[Architecture, Callable[[], nn.Module]]]:
    """Random members of a teacher's space, or the one smaller network of a family that no space knows."""
    family, found = FAMILIES[name], list[tuple[Architecture, Callable[[], nn.Module]]]()
    if family.smaller:
        return [({}, lambda: noise(family.build(**family.smaller)))]
    space, rng = space_of(name), random.Random(seed)
    for _ in range(count):
        sizes = {p.name: fixed.get(p.name, rng.choice(p.values)) for p in space.parameters(family.task)}
        found.append((sizes, lambda sizes=sizes: noise(space.build(sizes, family.task))))
    return found


def noise(model: nn.Module) -> nn.Module:
    """All of it a number that no weight is."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.fill_(123.0)
    return model.eval()


def answers(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits_BK: Tensor = model(x)
    return logits_BK


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)
