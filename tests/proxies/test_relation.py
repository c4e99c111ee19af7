from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from archsearch.evidence import NetworkEvidence
from archsearch.evidence.layers import first_tensor
from archsearch.proxies import Undefined
from archsearch.proxies.relation import match_stages, relation

# B batch


def network(*grams_BB: torch.Tensor) -> NetworkEvidence:
    return NetworkEvidence(torch.zeros(1, 1), grams_BB)


def test_two_stages_by_hand(evidence_of) -> None:
    # Stage one: all four entries differ by 1. Stage two: rows (3, 4) have length 5; 0.6 and 0.8 against 1 and 0 differ
    # by 0.4 and 0.8, mean square 0.4. A stage's size does not count.
    student = network(7 * torch.eye(2), torch.tensor([[3.0, 4.0], [4.0, 3.0]]))
    teacher = network(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2))
    assert relation(evidence_of(student=student, teacher=teacher)) == pytest.approx(-(1 + 0.4) / 2)


def test_it_is_that_of_the_features_of_the_stages(pair) -> None:
    features: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    for who, model in (("student", pair.student().train()), ("teacher", pair.teacher)):
        hooks = []
        for stage in model.feature_info:

            def keep(_module: torch.nn.Module, _inputs: object, output: object, who: str = who) -> None:
                features[who].append(first_tensor(output).detach().flatten(1).clone())

            hooks.append(model.get_submodule(stage["module"]).register_forward_hook(keep))
        with torch.no_grad():
            model(pair.x_BCHW)
        for hook in hooks:
            hook.remove()
    gaps = []
    for s, t in match_stages(len(features["student"]), 3):
        s_BB, t_BB = (normalize(f_BD @ f_BD.T, dim=1) for f_BD in (features["student"][s], features["teacher"][t]))
        gaps.append((s_BB - t_BB).pow(2).sum() / len(pair.y_B) ** 2)
    assert len(gaps) >= 2
    assert relation(pair.evidence()) == pytest.approx(-(sum(gaps) / len(gaps)).item(), rel=1e-3)


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
