from __future__ import annotations

import pytest
import torch

from archsearch.evidence import Evidence, Layer, NetworkEvidence, NotMeasured


def test_what_was_not_read_cannot_be_seen(every_read) -> None:
    evidence = Evidence((), 0, 0, 1, NetworkEvidence(torch.zeros(1, 1)))
    names = {
        "input_kernel": "input_kernel_BB",
        "jacobian": "jacobian_BB",
        "fisher_information": "fisher_information_PP",
    }
    for read in every_read - {"relations", "head", "ntk"}:
        with pytest.raises(NotMeasured, match=f"{read} was not measured"):
            getattr(evidence, names.get(read, read))
    with pytest.raises(NotMeasured, match="student"):
        _ = evidence.student


def test_everything_that_can_be_read_can_be_seen(every_read, batch, build) -> None:
    evidence = batch.observe(build("cifar_resnet"), *every_read)
    assert evidence.measured.keys() == every_read | {"student"}
    assert evidence.student.grams_BB
    assert evidence.student.head_gradient_KD is not None
    assert evidence.student.ntk_BB is not None


def test_a_layers_parameters_are_its_weights_entries() -> None:
    assert Layer("conv", d_out=16, d_in=27, groups=1, taps=9, positions=4, is_head=False).params == 16 * 27
