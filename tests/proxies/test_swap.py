from __future__ import annotations

import torch
from torch import nn

from archsearch.proxies.swap import swap


def test_it_is_how_many_patterns_were_seen(evidence_of) -> None:
    assert swap(evidence_of(patterns=12)) == 12


def test_it_is_a_set_of_a_real_students_units(pair) -> None:
    student, patterns = pair.student().train(), set()

    def keep(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        patterns.update(tuple(column) for column in (inputs[0] > 0).flatten(1).T.tolist())

    for module in student.modules():
        if type(module).__name__ in ("ReLU", "GELU", "Hardswish"):  # timm has a GELU of its own
            module.register_forward_pre_hook(keep)
    with torch.no_grad():
        student(pair.x_BCHW)
    assert swap(pair.evidence()) == len(patterns)
