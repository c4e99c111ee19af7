from __future__ import annotations

import pytest
import torch

from archsearch.kernels import relation as gram
from archsearch.proxies import Undefined
from archsearch.proxies.evidence import NetworkEvidence
from archsearch.proxies.relation import match_stages, relation

# B batch


def network(*relations_BB: torch.Tensor) -> NetworkEvidence:
    return NetworkEvidence(torch.zeros(1, 1), relations_BB, torch.zeros(1, 1))


def test_two_stages_by_hand(evidence_of) -> None:
    # Stage one: two of four entries differ by 1, mean square ½. Stage two: all differ by 2, mean square 4.
    student = network(torch.eye(2), torch.zeros(2, 2))
    teacher = network(torch.ones(2, 2), torch.full((2, 2), 2.0))
    assert relation(evidence_of(student=student, teacher=teacher)) == pytest.approx(-(0.5 + 4) / 2)


def test_it_is_that_of_the_features_of_the_stages(pair) -> None:
    evidence, student = pair.evidence(), pair.student().train()
    features: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    for who, model in (("student", student), ("teacher", pair.teacher)):
        for stage in model.feature_info:
            module = model.get_submodule(stage["module"])
            module.register_forward_hook(lambda _m, _i, out, who=who: features[who].append(out.detach().clone()))
        with torch.no_grad():
            model(pair.x_BCHW)
    depth = len(features["student"])
    gaps = []
    for s, t in match_stages(depth, 3):
        gaps.append((gram(features["student"][s]) - gram(features["teacher"][t])).pow(2).sum() / len(pair.y_B) ** 2)
    assert relation(evidence) == pytest.approx(-(sum(gaps) / len(gaps)).item(), rel=1e-4)


def test_a_network_that_is_its_own_teacher_is_perfectly_alike(evidence_of) -> None:
    same = network(torch.rand(3, 3), torch.rand(3, 3))
    assert relation(evidence_of(student=same, teacher=same)) == 0


def test_without_stages_it_is_undefined(evidence_of) -> None:
    with pytest.raises(Undefined, match="no stages"):
        relation(evidence_of(student=network(torch.eye(2))))


@pytest.mark.parametrize(
    ("students", "teachers", "pairs"),
    [
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (12, 3, [(3, 0), (7, 1), (11, 2)]),
        (3, 12, [(0, 3), (1, 7), (2, 11)]),
        (1, 4, [(0, 3)]),
        (0, 3, []),
    ],
)
def test_stages_meet_at_equal_depth_and_the_last_meets_the_last(students: int, teachers: int, pairs: list) -> None:
    assert match_stages(students, teachers) == pairs
