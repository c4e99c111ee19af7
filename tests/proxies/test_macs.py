from __future__ import annotations

import torch
from torch import nn

from archsearch.proxies.macs import macs


def test_it_is_the_networks(evidence_of) -> None:
    assert macs(evidence_of(macs=123)) == 123


def test_it_is_one_product_for_each_weight_at_each_place_of_a_real_student(pair) -> None:
    student, found = pair.student(), []

    def count(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        found.append(output[0].numel() * module.weight[0].numel())

    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    student(pair.x_BCHW)
    assert macs(pair.evidence()) == sum(found)


def test_it_is_a_convolutional_spaces_cost(pair_of) -> None:
    pair = pair_of("resnet_cifar")
    architecture = {p.name: p.low + p.step for p in pair.space.parameters(pair.task)}
    assert macs(pair.evidence()) == pair.space.cost(architecture, pair.task).macs
