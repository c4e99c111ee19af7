"""Teacher-free distillation: a virtual teacher that is right and equally unsure of everything else."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import softened_kl

if TYPE_CHECKING:
    from torch import Tensor


class TfKD(Settings):
    correct: float = Field(0.99, ge=0, le=1, description="The virtual teacher's probability of the label.")
    temperature: float = Field(20.0, ge=0.1, le=100, description="Softens the virtual teacher.")


@loss(
    "tf_kd",
    source="Yuan et al. 2020, arXiv 1909.11723, eq. 9 (Tf-KD reg)",
    reads=frozenset(),
    settings=TfKD,
    weight=0.1,
    labels=0.9,
    by_labels=True,
)
def tf_kd(inputs: LossInputs, settings: TfKD) -> Tensor:
    """KL(virtual teacher ‖ student): probability a for the label and (1 − a)/(K − 1) else, softened; no teacher asked.

    As in the authors' code, which the published weights belong to: softening takes the softmax of the virtual
    probabilities over T, and the student is not softened, as it is in the paper's equation.
    """
    student_BK = inputs.student.answers_MK.float()
    even = (1 - settings.correct) / (student_BK.shape[1] - 1)
    virtual_BK = student_BK.new_full(student_BK.shape, even).scatter(1, inputs.targets_M[:, None], settings.correct)
    return softened_kl(student_BK, virtual_BK / settings.temperature, 1.0)
