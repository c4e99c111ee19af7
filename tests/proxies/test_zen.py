from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from archsearch.evidence import Zen, observe_student
from archsearch.proxies import Undefined
from archsearch.proxies.zen import zen


def test_two_norms_by_hand(evidence_of) -> None:
    # log e² + ½ (log e² + log e⁴).
    scales = (torch.tensor(math.e**2), torch.tensor(math.e**4))
    assert zen(evidence_of(zen=Zen(torch.tensor(math.e**2), scales))) == pytest.approx(2 + 3, rel=1e-6)


@pytest.mark.parametrize("space", ["resnet_cifar", "nasbench201"])
def test_it_is_the_published_algorithm(pair_of, space: str) -> None:
    """Gaussian weights, then for each of eight inputs the change of the map before pooling, summed over its entries."""
    pair = pair_of(space)
    found = pair.fresh_evidence(reads={"zen"}, draw=3)
    student = pair.student().train()
    torch.manual_seed(3)
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight)
    # A batch norm that keeps only the last batch shows that batch's variance as its running one, without bias.
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm2d)]
    changes, log_scales = [], []
    with torch.no_grad():
        for repeat in range(8):
            for norm in norms:
                norm.momentum = 1.0
            x_BCHW = torch.randn_like(pair.x_BCHW)
            before_BCHW = student.forward_features(x_BCHW)
            if repeat == 0:
                log_scales = [norm.running_var.mean().sqrt().log().item() for norm in norms]
            after_BCHW = student.forward_features(x_BCHW + 0.01 * torch.randn_like(x_BCHW))
            changes.append((before_BCHW - after_BCHW).abs().sum((1, 2, 3)).mean().item())
    expected = math.log(sum(changes) / 8) + sum(log_scales)
    # The running variance divides by one less than there are values: at most 1 % here, of a logarithm.
    assert zen(found) == pytest.approx(expected, abs=0.006 * len(norms))


def test_the_students_own_weights_do_not_count(pair_of) -> None:
    pair = pair_of("resnet_cifar")
    first, other = (pair.fresh_evidence(seed, {"zen"}, draw=3) for seed in (0, 1))
    assert zen(first) == pytest.approx(zen(other), abs=1e-5)


def test_a_network_whose_norms_start_at_zero_is_measured_all_the_same(pair_of) -> None:
    pair = pair_of("resnet_cifar")
    student = pair.student()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
    torch.manual_seed(3)
    evidence = observe_student(student, pair.x_BCHW, pair.y_B, pair.teacher_evidence, {"zen"})
    assert zen(evidence) == pytest.approx(zen(pair.fresh_evidence(reads={"zen"}, draw=3)), abs=1e-5)


def test_it_is_undefined_without_batch_norm(evidence_of) -> None:
    with pytest.raises(Undefined, match="no batch norm"):
        zen(evidence_of(zen=Zen(torch.tensor(1.0), ())))


def test_it_is_undefined_where_no_signal_passes(evidence_of) -> None:
    with pytest.raises(Undefined, match="no signal"):
        zen(evidence_of(zen=Zen(torch.tensor(0.0), (torch.tensor(1.0),))))
    with pytest.raises(Undefined, match="no signal"):
        zen(evidence_of(zen=Zen(torch.tensor(1.0), (torch.tensor(0.0),))))
