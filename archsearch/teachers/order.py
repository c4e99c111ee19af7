"""A teacher's outputs in the data's order: its classifier's rows are moved, so that whoever asks it finds them so."""

# B batch, C channels, H W space, N images, K classes

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archsearch.data.task import Task
from archsearch.errors import TeacherError
from archsearch.request import ClassMap
from archsearch.teachers.classes import Namings, Order, order_of
from archsearch.teachers.teacher import ImageTeacher

if TYPE_CHECKING:
    import torch
    from torch import nn


def in_order_of(task: Task, teacher: ImageTeacher, given: ClassMap | None = None) -> ImageTeacher:
    """The teacher with its outputs in the order of the data's classes; raises TeacherError as `order_of` does."""
    namings = teacher.namings or _known_to_timm(teacher, task)
    order, notes = order_of(teacher.name, namings, teacher.num_classes, task, given)
    found = teacher if order is None else reordered(teacher, order)
    return replace(found, namings=namings, notes=(*teacher.notes, *notes), classes_given=given is not None)


def reordered(teacher: ImageTeacher, order: Order) -> ImageTeacher:
    """The teacher whose output k is what its output `order[k]` was. Its network is changed in place.

    Losses read the classifier's weights and layers beside the logits, so moving the logits alone would not do. A
    network whose answers do not follow its classifier's rows raises TeacherError.
    """
    import torch

    from archsearch.teachers.answers import Answers

    model: Any = teacher.model
    probe_BCHW = _probe(teacher)
    with torch.no_grad():
        before_BK = None if probe_BCHW is None else model(probe_BCHW)
        for layer in list(_last_layers(model, teacher.num_classes)):
            if isinstance(layer, Answers):
                layer.take(order)
            else:
                _take_rows(layer, order)
        model.num_classes = len(order)
        after_BK = None if probe_BCHW is None else model(probe_BCHW)
    if before_BK is not None and (
        after_BK is None
        or after_BK.shape[1] != len(order)
        or not torch.allclose(after_BK, before_BK[:, list(order)], rtol=1e-3, atol=1e-4)
    ):
        raise TeacherError(
            f"the classifier of {teacher.name} cannot be put in order; number the data's classes as the teacher does",
            field="teacher.classes",
        )
    return replace(teacher, num_classes=len(order), order=order)


def _last_layers(model: Any, num_classes: int) -> Iterator[nn.Module]:
    """The layers that give the logits: one, or two where a distilled transformer has two heads."""
    from torch import nn

    from archsearch.teachers.answers import Answers

    found = model.get_classifier()
    for head in found if isinstance(found, tuple) else (found,):
        layers = [each for each in head.modules() if isinstance(each, nn.Linear | nn.Conv2d | Answers)]
        widths = [each.count if isinstance(each, Answers) else each.weight.shape[0] for each in layers]
        if layers and widths[-1] == num_classes:
            yield layers[-1]


def _take_rows(layer: Any, order: Order) -> None:
    from torch import nn

    rows = list(order)
    layer.weight = nn.Parameter(layer.weight[rows].clone(), requires_grad=False)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[rows].clone(), requires_grad=False)
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", len(rows))


def _probe(teacher: ImageTeacher) -> torch.Tensor | None:
    """Two images of noise, the same every time; None for a network that says no size."""
    import torch

    if teacher.input_hw is None:
        return None
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, teacher.in_chans, *teacher.input_hw, generator=generator)


def _known_to_timm(teacher: ImageTeacher, task: Task) -> Namings:
    """ImageNet's names, where the data's are such and the teacher is a stock network with as many classes.

    Stock networks carry no names; that the data's are those of the list timm keeps says which list it is.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": teacher.num_classes})
    if subset is None or len(task.class_names) != teacher.num_classes:
        return ()
    info = ImageNetInfo(subset)
    synsets: list[str] = info.label_names()  # type: ignore[no-untyped-call]
    described = tuple(info.label_descriptions())
    ways = (tuple(synsets), described, tuple(text.split(",")[0] for text in described))
    return tuple(way for way in ways if set(way) == set(task.class_names) and len(set(way)) == len(way))
