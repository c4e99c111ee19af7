"""In what form the teacher's answers to views are kept: every logit, or the likeliest classes and the mass of the rest.

Of a thousand classes the sixteen likeliest and the mass of the rest take 66 bytes, all of them 2,000. Answers come out
in the same form whether they were kept or not, so that a cache changes nothing.
"""

# B batch, K classes, L the likeliest of them

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from archsearch.distill.loss import Outputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Halves = npt.NDArray[np.float16]
# Classes that are kept of many.
TOP = 16
# What all logits of all views may take. A constant, and nothing of the disk's: it decides what is learned.
MOST_BYTES = 2**30


class Form(Protocol):
    """How answers are written and read."""

    @property
    def width(self) -> int:
        """Numbers of two bytes an answer takes."""

    def shown(self, logits_BK: Tensor) -> Outputs:
        """The teacher's answers as losses get them, whether they are kept or not."""

    def written(self, outputs: Outputs) -> Halves:
        """The same as they are kept, B×width."""

    def read(self, kept_BW: Halves, device: torch.device) -> Outputs:
        """What `shown` gave before it was written."""


@dataclass(frozen=True)
class Whole:
    """Every logit, in half precision."""

    classes: int

    @property
    def width(self) -> int:
        return self.classes

    def shown(self, logits_BK: Tensor) -> Outputs:
        return Outputs(in_range(logits_BK).half().float())

    def written(self, outputs: Outputs) -> Halves:
        return half(outputs.answers_MK)

    def read(self, kept_BW: Halves, device: torch.device) -> Outputs:
        import torch

        return Outputs(torch.from_numpy(kept_BW).to(device, non_blocking=True).float())


@dataclass(frozen=True)
class Likeliest:
    """The logarithms of the likeliest classes' probabilities, which those are, and of what all others have together.

    Renormalised without the rest, a student would be taught to be too sure; with one class more that stands for the
    rest, the gradient of KL is exact for those that are kept, and the others are moved as a whole.
    """

    classes: int
    top: int = TOP

    @property
    def width(self) -> int:
        return 2 * self.top + 1

    def shown(self, logits_BK: Tensor) -> Outputs:
        log_BK = logits_BK.detach().float().log_softmax(1)
        log_BL, class_BL = log_BK.topk(self.top, dim=1)
        rest_B = log_BK.scatter(1, class_BL, -float("inf")).logsumexp(1)
        return self._placed(in_range(log_BL).half().float(), class_BL, in_range(rest_B).half().float())

    def written(self, outputs: Outputs) -> Halves:
        assert outputs.rest_M is not None
        log_BL, class_BL = outputs.answers_MK.topk(self.top, dim=1)
        # Numbers of classes take as many bytes as halves, and lie between them as what they are.
        numbers_BL = class_BL.cpu().numpy().astype(np.uint16).view(np.float16)
        return np.concatenate([half(log_BL), half(outputs.rest_M[:, None]), numbers_BL], axis=1)

    def read(self, kept_BW: Halves, device: torch.device) -> Outputs:
        import torch

        log_BL, rest_B = kept_BW[:, : self.top], kept_BW[:, self.top]
        numbers_BL = np.ascontiguousarray(kept_BW[:, self.top + 1 :]).view(np.uint16).astype(np.int64)
        parts = (np.ascontiguousarray(log_BL), numbers_BL, np.ascontiguousarray(rest_B))
        likely_BL, class_BL, rest = (torch.from_numpy(part).to(device, non_blocking=True) for part in parts)
        return self._placed(likely_BL.float(), class_BL, rest.float())

    def _placed(self, log_BL: Tensor, class_BL: Tensor, rest_B: Tensor) -> Outputs:
        log_BK = log_BL.new_full((len(log_BL), self.classes), -float("inf"))
        return Outputs(log_BK.scatter_(1, class_BL, log_BL), rest_M=rest_B)


def form_of(rows: int, views: int, classes: int, *, sampled: bool, many: bool) -> Form:
    """How the answers to so many views are kept.

    Args:
        sampled: Whether the views were drawn rather than being all there are.
        many: Whether an example has any number of labels, none of which says anything of the others.
    """
    if sampled and not many and classes > 2 * TOP and 2 * rows * views * classes > MOST_BYTES:
        return Likeliest(classes)
    return Whole(classes)


def filled(teacher: Outputs, student_MK: Tensor) -> Outputs:
    """The teacher's answers with those of classes that were not kept: as the student has them among each other, and in
    sum what the teacher gives them. KL over all classes then has the gradient of one where those are a single class.
    """
    import torch

    if teacher.rest_M is None:
        return teacher
    kept_MK = teacher.answers_MK.isfinite()
    own_MK = student_MK.detach().float().masked_fill(kept_MK, -float("inf"))
    others_MK = own_MK - own_MK.logsumexp(1, keepdim=True) + teacher.rest_M[:, None]
    return Outputs(torch.where(kept_MK, teacher.answers_MK, others_MK))


def in_range(logits_BK: Tensor) -> Tensor:
    """Logits in fp32, far ones brought to the range of fp16."""
    return logits_BK.detach().float().clamp(-65504, 65504)


def half(logits_BK: Tensor) -> Halves:
    """Logits as they are kept."""
    found: Any = in_range(logits_BK).half().cpu().numpy()
    halves: Halves = found
    return halves
