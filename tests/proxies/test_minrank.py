from __future__ import annotations

import torch
from torch import nn

from archsearch.proxies.minrank import minrank


def test_a_small_net_by_hand(evidence_of, layers) -> None:
    # 16×27, four times 8×72, 32 times 1×9, 32×16; the classifier does not count.
    assert minrank(evidence_of(layers)) == 16 + 4 * 8 + 32 + 16


def test_it_is_the_rank_of_a_real_students_random_matrices(pair) -> None:
    student, expected = pair.student(), 0
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module is not student.get_classifier():
            for matrix in module.weight.detach().flatten(1).chunk(getattr(module, "groups", 1)):
                expected += int(torch.linalg.matrix_rank(matrix))
    assert minrank(pair.evidence()) == expected
