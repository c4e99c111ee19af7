from __future__ import annotations

import pytest
import torch

from archsearch.evidence import NetworkEvidence
from archsearch.proxies import Undefined
from archsearch.proxies.relation_last import relation_last

# B batch


def network(*grams_BB: torch.Tensor) -> NetworkEvidence:
    return NetworkEvidence(torch.zeros(1, 1), grams_BB)


def test_the_last_stage_by_hand(evidence_of) -> None:
    # Rows (3, 4) have length 5: 0.6 and 0.8 against 1 and 0 differ by 0.4 and 0.8. The first stage does not count.
    student = network(torch.rand(2, 2), torch.tensor([[3.0, 4.0], [4.0, 3.0]]))
    teacher = network(torch.rand(2, 2), torch.rand(2, 2), torch.eye(2))
    assert relation_last(evidence_of(student=student, teacher=teacher)) == pytest.approx(-0.4)


def test_it_is_that_of_the_last_stages_features(pair) -> None:
    relations_BB = []
    for model in (pair.student().train(), pair.teacher):
        seen: list[torch.Tensor] = []
        stage = model.get_submodule(model.feature_info[-1]["module"])
        hook = stage.register_forward_hook(
            lambda _m, _i, out, seen=seen: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        with torch.no_grad():
            model(pair.x_BCHW)
        hook.remove()
        rows_BD = seen[0].flatten(1)
        gram_BB = torch.tensor([[float(a @ b) for b in rows_BD] for a in rows_BD])
        relations_BB.append(torch.stack([row_B / row_B.norm() for row_B in gram_BB]))
    expected = -((relations_BB[0] - relations_BB[1]).norm() ** 2) / len(pair.y_B) ** 2
    assert relation_last(pair.evidence()) == pytest.approx(expected.item(), rel=1e-3)


def test_without_stages_it_is_undefined(evidence_of) -> None:
    with pytest.raises(Undefined, match="no stages"):
        relation_last(evidence_of(student=network(torch.eye(2))))
