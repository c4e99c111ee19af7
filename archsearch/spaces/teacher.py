"""The teacher's own space: its family, and its sizes and below. The largest member is the teacher's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from archsearch.data.task import Task
from archsearch.errors import InvalidRequest
from archsearch.spaces import bert, convnext, mobilenet, regnet, resnet, resnet_cifar, vit
from archsearch.spaces.kin import Kin, Order
from archsearch.spaces.space import Space

if TYPE_CHECKING:
    from torch import nn

FAMILIES = (
    "timm's ResNet and ResNeXt, ConvNeXt, MobileNetV3, EfficientNet, RegNet, plain ViT and DeiT, cifar_resnet, and "
    "for the encoders BERT, RoBERTa, DistilBERT and ELECTRA"
)
_RECOGNISERS = (resnet.kin, convnext.kin, mobilenet.kin, regnet.kin, vit.kin, resnet_cifar.kin, bert.kin)
# Pixels a side of the last map, at least: a teacher that was trained on such images says itself how few will do.
_LAST_MAP = 2


def of_teacher(model: nn.Module, task: Any, order: Order | None = None) -> Space:
    """The space of students of the teacher's own kind, for a task.

    Args:
        order: Where they are to be cut out of the teacher: of each stage, its blocks in the order in which they are
            kept.

    Raises InvalidRequest when the teacher is of no family here, has parts its family's other members lack, or leaves
    too little of the task's images to pool: stem, strides and patch stay the teacher's.
    """
    kin = next((found for recognise in _RECOGNISERS if (found := _recognised(recognise, model)) is not None), None)
    if kin is None:
        raise _unknown(f"a {type(model).__name__} is of no family known here")
    if order is not None and kin.cut is not None:
        kin = kin.cut(order)
    seen: Any = model
    # Stages of tokens are not reduced, and there are as many as the example has.
    reduction = max(level.get("reduction", 0) for level in seen.feature_info)
    if reduction and min(task.height, task.width) < _LAST_MAP * reduction:
        raise InvalidRequest(
            f"the teacher's own kind reduces images {reduction} times, which leaves nothing to pool of "
            f"{task.height}×{task.width} pixels; use space 'auto'",
            field="search.space",
        )
    name = kin.name or seen.pretrained_cfg["architecture"]
    # Nothing is to be searched where a stage of the teacher's has one block.
    fixed = {parameter.name: parameter.low for parameter in kin.parameters(task) if len(parameter.values) == 1}
    space = Space(
        name="teacher",
        doc=f"The teacher's own kind, {name}: its sizes and below.",
        parameters=lambda task: tuple(p for p in kin.parameters(task) if p.name not in fixed),
        model=lambda architecture, task: kin.model({**fixed, **architecture}, task),
        count=lambda architecture, task: kin.count({**fixed, **architecture}, task),
        optimizer=kin.optimizer,
        learns_from=kin.learns_from,
        domain=kin.domain,
        canonical=kin.canonical,
    )
    _require_same(model, space, task)
    return space


def _recognised(recognise: Callable[[nn.Module], Kin | None], model: nn.Module) -> Kin | None:
    """What a family says of a network; nothing of a variant whose blocks lack what it reads off them.

    timm has the class of a family for dozens of variants, and gets new ones: whose norm is another, whose blocks are
    parallel, whose gate has no first layer.
    """
    try:
        return recognise(model)
    except AttributeError:
        return None


def _require_same(teacher: nn.Module, space: Space, task: Task) -> None:
    """Refuse a teacher that is more, or other, than what its family's parameters say: the largest member tells."""
    import torch

    with torch.device("meta"):
        largest = space.build(space.largest(task), task)
    if space.count(space.largest(task), task).params != sum(weight.numel() for weight in largest.parameters()):
        raise _unknown("the teacher has parts that other networks of its family lack")
    mine, theirs = _layers(teacher), _layers(largest)
    if mine != theirs:
        other = next(iter((mine - theirs) + (theirs - mine)))
        raise _unknown(f"the teacher differs from other networks of its family ({other})")


def _layers(model: nn.Module) -> Counter[str]:
    """What a network is made of, name by name, what only training needs apart; heads differ with the classes."""
    from timm.layers.drop import DropPath
    from torch import nn

    classifier: Any = model.get_classifier()  # type: ignore[operator]
    aside = {id(module) for module in classifier.modules()}
    passing = (nn.Identity, nn.Dropout, DropPath)
    return Counter(
        # The same activation has names that differ in case, of torch and of timm.
        f"{name}: {module!r}".lower()
        for name, module in model.named_modules()
        if not any(module.children()) and not isinstance(module, passing) and id(module) not in aside
    )


def _unknown(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"{reason}; students of the teacher's own kind are there for {FAMILIES}: use space 'auto' or name one",
        field="search.space",
    )
