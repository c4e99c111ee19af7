"""The feature losses against torchdistill's, where it has them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from archsearch.distill.adapters.crd import Contrast
from archsearch.distill.loss import LossInputs, Outputs, Settings, Stage, losses
from archsearch.distill.losses.crd import CRD
from archsearch.distill.losses.reviewkd import hierarchical
from archsearch.distill.losses.rkd import RKD
from archsearch.distill.losses.sp import SP

# B batch, C channels, H W space, D features, F features projected to

mid_level: Any = pytest.importorskip("torchdistill.losses.mid_level")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shown(tensor: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    return {"stage": {"output": tensor}}


def batch(student: Outputs, teacher: Outputs) -> LossInputs:
    size = len(student.answers_MK)
    return LossInputs(student, teacher, torch.zeros(size, dtype=torch.long), torch.arange(size))


def of_maps(student: torch.Tensor, teacher: torch.Tensor) -> LossInputs:
    return batch(*(Outputs(torch.zeros(len(maps), 2), (Stage(maps),)) for maps in (student, teacher)))


def test_at_is_that_of_the_published_code() -> None:
    student, teacher = random(8, 6, 4, 4), random(8, 10, 4, 4, seed=1)
    pair = {side: {"io": "output", "path": "stage"} for side in ("teacher", "student")}
    theirs = mid_level.ATLoss({"pair": pair}, mode="code")(shown(student), shown(teacher))
    ours = losses.get("at").compute(of_maps(student, teacher), Settings())
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_sp_is_the_same_but_for_the_norm_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchdistill 1.1.5 gives the dimension where `normalize` takes the norm's order, so its rows sum to 1.

    The paper's rows (eq. 2) are of length 1; with that norm the values agree.
    """
    student, teacher = random(8, 6, 4, 4), random(8, 10, 4, 4, seed=1)
    spkd = mid_level.SPKDLoss("stage", "stage", reduction="batchmean")
    ours = losses.get("sp").compute(of_maps(student, teacher), SP())
    assert not torch.allclose(spkd(shown(student), shown(teacher)), ours, rtol=0.1)
    monkeypatch.setattr(mid_level, "normalize", lambda gram_BB, *_: normalize(gram_BB))
    torch.testing.assert_close(ours, spkd(shown(student), shown(teacher)), rtol=1e-5, atol=0)


def test_rkd_is_the_same() -> None:
    student, teacher = random(8, 6), random(8, 10, seed=1)
    theirs = mid_level.RKDLoss("stage", "stage", 25.0, 50.0, "mean")(shown(student), shown(teacher))
    outputs = (Outputs(torch.zeros(8, 2), embedding_BD=e) for e in (student, teacher))
    torch.testing.assert_close(losses.get("rkd").compute(batch(*outputs), RKD()), theirs, rtol=1e-5, atol=0)


def test_the_hierarchy_of_reviewkd_is_the_same() -> None:
    for side in (1, 2, 4, 5, 7, 8):
        student, teacher = random(3, 6, side, side), random(3, 6, side, side, seed=1)
        theirs = mid_level.HierarchicalContextLoss("stage", "output", "stage", "output")(
            {"stage": {"output": (student, None)}}, shown(teacher)
        )
        torch.testing.assert_close(hierarchical(student - teacher), theirs, rtol=1e-5, atol=0)


def test_crd_is_the_same_with_the_same_negatives() -> None:
    """Given one memory, one list of negatives for each image and one normaliser; what is remembered agrees too.

    torchdistill measures the normaliser on its first batch, which lies near the expectation that is used here.
    """
    images, features, size = 200, 32, 6
    torch.manual_seed(0)
    ours = Contrast((5, 7), images, features=features, negatives=images, momentum=0.5, temperature=0.2)
    crd = mid_level.CRDLoss("s", "e", "t", features, images, images - 1, images, temperature=0.2, momentum=0.5)
    crd.memory_v1.copy_(ours.student_NF)
    crd.memory_v2.copy_(ours.teacher_NF)
    row_B, embeddings = torch.tensor([3, 50, 7, 199, 0, 100]), (random(size, 5), random(size, 7, seed=1))
    # All the others, each once; ours are all images without the own.
    others_BK = torch.stack([torch.arange(images)[torch.arange(images) != row] for row in row_B])
    negatives_BK = torch.cat((row_B[:, None], others_BK), 1)
    student_BF, teacher_BF = normalize(ours.student(embeddings[0])), normalize(ours.teacher(embeddings[1]))
    student_io = {"s": {"output": student_BF}, "e": {"input": {"pos_idx": row_B, "contrast_idx": negatives_BK}}}
    with torch.no_grad():
        measured = crd.params.clone()
        crd(student_io, {"t": {"output": teacher_BF}})
        measured, crd.params[2:4] = crd.params[2:4].clone(), images * math.exp(1 / (2 * features * 0.2**2))
        torch.testing.assert_close(measured, crd.params[2:4], rtol=0.15, atol=0)
        crd.memory_v1.copy_(ours.student_NF)
        crd.memory_v2.copy_(ours.teacher_NF)
        theirs = crd(student_io, {"t": {"output": teacher_BF}}).squeeze()
    outputs = (Outputs(torch.zeros(size, 2), embedding_BD=e) for e in embeddings)
    value = losses.get("crd").compute(
        LossInputs(*outputs, torch.zeros(size, 2), row_B, adapter=ours), CRD(features=features)
    )
    # Theirs counts 199 negatives in the noise's share and ours 200; their 1e-7 against division by zero is no more.
    torch.testing.assert_close(value.detach(), theirs, rtol=2e-3, atol=0)
    torch.testing.assert_close(ours.student_NF, crd.memory_v1)
    torch.testing.assert_close(ours.teacher_NF, crd.memory_v2)
