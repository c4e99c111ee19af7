"""Two projections and a memory of what they made of every training image."""

# B batch, D features, F features projected to, K negatives, N images

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus


class Contrast(nn.Module):
    """Tells the embedding of the same image from those of others, across student and teacher.

    Args:
        dims: D of the student's and of the teacher's embeddings.
        images: N, of the training split.
        features: F.
        negatives: K, others that an image is told from; at most N.
        momentum: Share of the old in a remembered embedding that is seen again.
        temperature: Of the similarity.
    """

    student_NF: Tensor
    teacher_NF: Tensor
    label_N: Tensor
    order_N: Tensor
    cursor: Tensor

    def __init__(
        self,
        dims: tuple[int, int],
        images: int,
        *,
        features: int,
        negatives: int,
        momentum: float,
        temperature: float,
    ) -> None:
        super().__init__()
        self.student, self.teacher = (nn.Linear(dim, features) for dim in dims)
        self.negatives, self.momentum, self.temperature = min(negatives, images), momentum, temperature
        # Vectors of about unit length, as the published memory starts from.
        reach = math.sqrt(3 / features)
        for name in ("student_NF", "teacher_NF"):
            self.register_buffer(name, torch.empty(images, features).uniform_(-reach, reach))
        self.register_buffer("label_N", torch.full((images,), -1))
        # Negatives are drawn by going round a shuffled list: no random numbers in a step, and it resumes to the bit.
        self.register_buffer("order_N", torch.randperm(images))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        # The noise model divides by the mean of exp(similarity / T), which is published as measured on the first batch,
        # against a memory still random: its expectation is known, since similarities then have variance 1 / F.
        self.offset = 1 / (2 * features * temperature**2) + math.log(self.negatives)

    def forward(self, student_BD: Tensor, teacher_BD: Tensor, row_B: Tensor, label_B: Tensor | None) -> Tensor:
        """The loss of both sides; under grad, the embeddings are remembered afterwards.

        Args:
            label_B: Classes, where images of the same class are to be no negatives.
        """
        student_BF = normalize(self.student(student_BD.flatten(1).float()))
        teacher_BF = normalize(self.teacher(teacher_BD.flatten(1).float()))
        other_K = self._others()
        same_BK = other_K == row_B[:, None]
        if label_B is not None:
            same_BK |= self.label_N[other_K] == label_B[:, None]
        value = self._side(student_BF, self.teacher_NF, row_B, other_K, same_BK)
        value = value + self._side(teacher_BF, self.student_NF, row_B, other_K, same_BK)
        if torch.is_grad_enabled():
            self._remember(student_BF, teacher_BF, row_B, label_B)
        return value

    def _others(self) -> Tensor:
        """Numbers of the images that are negatives this time, the same for the whole batch."""
        steps_K = torch.arange(self.negatives, device=self.cursor.device)
        found: Tensor = self.order_N[(self.cursor + steps_K) % len(self.order_N)]
        return found

    def _side(self, anchor_BF: Tensor, memory_NF: Tensor, row_B: Tensor, other_K: Tensor, same_BK: Tensor) -> Tensor:
        """−log h of the positive and −Σ log(1 − h) of the negatives, h = e^s / (e^s + K·mean e^s), averaged over B.

        Both are softplus of s = similarity / T less the logarithm of what h compares it with.
        """
        scaled_BF = anchor_BF / self.temperature
        positive_B = (scaled_BF * memory_NF[row_B]).sum(1) - self.offset
        negative_BK = (scaled_BF @ memory_NF[other_K].T).sub_(self.offset).masked_fill_(same_BK, -math.inf)
        return (softplus(-positive_B).sum() + softplus(negative_BK).sum()) / len(row_B)

    @torch.no_grad()
    def _remember(self, student_BF: Tensor, teacher_BF: Tensor, row_B: Tensor, label_B: Tensor | None) -> None:
        row_B = _of_all(row_B)
        for memory_NF, new_BF in ((self.student_NF, student_BF), (self.teacher_NF, teacher_BF)):
            mixed_BF = self.momentum * memory_NF[row_B] + (1 - self.momentum) * _of_all(new_BF)
            memory_NF[row_B] = normalize(mixed_BF)
        if label_B is not None:
            self.label_N[row_B] = _of_all(label_B)
        self.cursor.copy_((self.cursor + self.negatives) % len(self.order_N))


def _of_all(part: Tensor) -> Tensor:
    """A batch's rows from all the processes that train together, so that their memories stay the same."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return part
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts)
