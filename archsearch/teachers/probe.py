"""A head for a teacher that has none for the data's classes: closed-form ridge on what it makes of their images.

What comes of it is an ordinary teacher: its network with another last layer, which losses, evidence and caches find
where they find any classifier.
"""

# N images, B batch, C channels, H W space, K classes, D features

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.data.balanced import balanced_rows
from archsearch.data.batches import asked
from archsearch.data.notes import Note
from archsearch.data.task import Kind
from archsearch.device import where
from archsearch.domains.images.task import ImageDataset, Images
from archsearch.errors import TeacherError
from archsearch.ridge import leave_one_out
from archsearch.teachers.teacher import ImageTeacher

if TYPE_CHECKING:
    from torch import Tensor, nn

PROBED = "teacher_probed"
# Images a head is fitted to: more change a ridge of some thousand features little, and take memory several times over.
_MOST_IMAGES, _MOST_BYTES, _FEWEST_IMAGES = 20_000, 2**28, 256
# Of the temperature and of what is added to the odds, the range that is looked through.
_SHARPEST, _FLATTEST = 1e3, 1e-2


def probed(teacher: ImageTeacher, dataset: ImageDataset) -> ImageTeacher:
    """The teacher with a linear head for the data's classes, in their order; its network is changed in place.

    The ridge is weighed by leave-one-out, the answers are sharpened so that their log-loss left one out is least.

    Raises:
        TeacherError: It takes other images, or has no place for a head.
    """
    import torch

    task = dataset.task
    if len(dataset.train) < 2:
        detail = (
            f"a head is fitted to labelled training images, and there are {len(dataset.train)}; take a teacher with one"
        )
        raise TeacherError(detail, field="teacher.head")
    teacher.require(task)
    head = _new_head(teacher, task.classes)
    most = max(_FEWEST_IMAGES, min(_MOST_IMAGES, _MOST_BYTES // (8 * head.weight.shape[1])))
    chosen = dataset.train.take(balanced_rows(dataset.train.y_N, min(len(dataset.train), most), 0))
    x_ND, labels = _features(teacher, head, chosen), chosen.labels()
    y_NK = labels.double() if labels.ndim == 2 else torch.nn.functional.one_hot(labels, task.classes).double()
    mean_D, scale_D = x_ND.mean(0), x_ND.std(0, correction=0)
    scale_D = torch.where(scale_D > 1e-6 * scale_D.max(), scale_D, torch.inf)  # what never differs says nothing
    found = leave_one_out((x_ND - mean_D) / scale_D, y_NK)
    sharpness, offset = _sharpened(found.predictions_NK, y_NK, task.kind)
    weight_KD = sharpness * (found.coefficients_DK / scale_D[:, None]).T
    bias_K = sharpness * found.intercept_K + offset - weight_KD @ mean_D
    _fill(head, weight_KD, bias_K)
    right = _right(found.predictions_NK, y_NK, task.kind)
    note = Note(
        PROBED,
        f"{teacher.name} was given a linear head for the data's {task.classes} classes, fitted to {len(x_ND):,} "
        f"training images: left out of the fit one at a time, {right:.1f} % of them are told right. Where that is "
        "poor, train the teacher itself: archsearch train-teacher --pretrained",
    )
    digest = hashlib.sha256(weight_KD.numpy().tobytes() + bias_K.numpy().tobytes()).hexdigest()
    return replace(
        teacher, num_classes=task.classes, namings=(), order=None, fitted=digest, notes=(*teacher.notes, note)
    )


def _new_head(teacher: ImageTeacher, classes: int) -> nn.Linear | nn.Conv2d:
    """The network's last layer, made anew for so many classes."""
    from torch import nn

    model: Any = teacher.model
    at = where(model)
    try:
        model.reset_classifier(classes)
        model.to(at)
        head = model.get_classifier()
    except (AttributeError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise TeacherError(f"{teacher.name} takes no other head ({error})", field="teacher.head") from None
    modules = head.modules() if isinstance(head, nn.Module) else ()  # a distilled transformer has two heads
    last = [each for each in modules if isinstance(each, nn.Linear | nn.Conv2d)]
    if not last or last[-1].weight.shape[0] != classes:
        detail = f"{teacher.name} has no single linear layer at its end; fine-tune it: archsearch train-teacher"
        raise TeacherError(detail, field="teacher.head")
    model.eval().requires_grad_(False)
    return last[-1]


def _features(teacher: ImageTeacher, head: nn.Module, split: Images) -> Tensor:
    """What enters the head, N×D in float64, of every image of a split."""
    import torch

    kept: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0].flatten(1).double().cpu()))

    def run(x_BCHW: Tensor) -> Tensor:
        kept.clear()
        teacher.logits(x_BCHW)
        return kept[0]

    try:
        return torch.cat(
            [found for _, found in asked(run, lambda rows: split.take(rows).images().float() / 255, len(split))]
        )
    finally:
        hook.remove()


def _sharpened(left_out_NK: Tensor, y_NK: Tensor, kind: Kind) -> tuple[float, float]:
    """What predictions are multiplied by to be logits, and what is added, so that their log-loss is least.

    Of one label an image nothing is added: it would be the same for all classes.
    """
    from scipy.optimize import minimize, minimize_scalar
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    if kind != "multilabel":
        target_N = y_NK.argmax(1)
        found = minimize_scalar(
            lambda power: float(cross_entropy(left_out_NK * 10**power, target_N)),
            bounds=(np.log10(_FLATTEST), np.log10(_SHARPEST)),
            method="bounded",
        )
        return float(10**found.x), 0.0

    def loss(both: Any) -> float:
        return float(binary_cross_entropy_with_logits(left_out_NK * 10 ** both[0] + both[1], y_NK))

    both = minimize(loss, (0.5, -1.0), method="Nelder-Mead").x
    return float(10 ** min(both[0], np.log10(_SHARPEST))), float(both[1])


def _fill(head: nn.Linear | nn.Conv2d, weight_KD: Tensor, bias_K: Tensor) -> None:
    import torch
    from torch import nn

    with torch.no_grad():
        head.weight.copy_(weight_KD.reshape(head.weight.shape))
        if head.bias is None:
            head.bias = nn.Parameter(torch.zeros(len(bias_K)).to(head.weight), requires_grad=False)
        head.bias.copy_(bias_K)


def _right(left_out_NK: Tensor, y_NK: Tensor, kind: Kind) -> float:
    """Percent of images, or of labels of images where these are many, that are told right."""
    if kind == "multilabel":
        return 100 * float(((left_out_NK > 0.5) == (y_NK > 0.5)).double().mean())
    return 100 * float((left_out_NK.argmax(1) == y_NK.argmax(1)).double().mean())
