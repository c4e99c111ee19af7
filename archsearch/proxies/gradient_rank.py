"""How many directions of change the images ask for, in the student's own eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.trainability import departure

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"input_kernel"},
    magnitude=False,
    source="this project; effective rank (Roy and Vetterli 2007) of the distillation loss's input gradients",
)
def gradient_rank(ev: Evidence) -> Tensor:
    """How well the network tells images apart: 2 − x − 1/x, x = erank / B of their input gradients; −4 to 0.

    To learn the teacher's answers each image asks for a change in a direction of its own; where directions coincide,
    what is learned of one image is unlearned or repeated by another. x is the effective rank of the correlation of
    those directions as a share of the batch, 1 where all differ. The form is isometry's: flat near 1, so that it is
    silent among healthy networks, where x differs by chance alone, and outspoken about broken ones.
    """
    return departure(kernels.effective_rank(ev.input_kernel_BB) / ev.batch_size)
