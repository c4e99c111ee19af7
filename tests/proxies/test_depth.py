from __future__ import annotations

from dataclasses import replace

from torch import nn

from archsearch.proxies.depth import depth


def test_a_small_net_by_hand(evidence_of, layers) -> None:
    assert depth(evidence_of(layers)) == 5


def test_a_layer_the_forward_pass_leaves_out_does_not_count(evidence_of, layers) -> None:
    assert depth(evidence_of((*layers, replace(layers[0], positions=0)))) == 5


def test_it_is_how_many_layers_a_real_student_calls(pair) -> None:
    student, called = pair.student(), []
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, _i, _o: called.append(module))
    student(pair.x_BCHW)
    assert depth(pair.evidence()) == len(called)
