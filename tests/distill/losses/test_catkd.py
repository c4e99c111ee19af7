from __future__ import annotations

import pytest
import torch
from torch import nn

from archsearch.distill.loss import LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.catkd import CATKD
from archsearch.errors import InvalidRequest

# B batch, C channels, H W space, K classes

catkd = losses.get("catkd")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def value(
    student: tuple[torch.Tensor, torch.Tensor],
    teacher: tuple[torch.Tensor, torch.Tensor],
    settings: CATKD = CATKD(),  # noqa: B008
) -> torch.Tensor:
    """Of (last map, classifier's weights) of both."""
    size = len(student[0])
    outputs = [
        Outputs(torch.zeros(size, 2), (Stage(maps),), weight_KD=weight_KD) for maps, weight_KD in (student, teacher)
    ]
    return catkd.compute(
        LossInputs(outputs[0], outputs[1], torch.zeros(size, dtype=torch.long), torch.arange(size)), settings
    )


def test_two_classes_by_hand() -> None:
    """The student's class 0 sees (3, 0 | 0, 4), of unit length (0.6, 0 | 0, 0.8), its class 1 (0, 5 | 0, 0).

    The teacher's class 0 sees (1, 0 | 0, 0), its class 1 the same against it: squared distances 0.8 and 2, of 8 values.
    """
    student = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]], [[0.0, 5.0], [0.0, 0.0]]]]), torch.eye(2)
    teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[1.0], [-2.0]])
    assert value(student, teacher).item() == pytest.approx(2.8 / 8, abs=1e-6)
    # Without normalising: (2, 0 | 0, 4) and (2, 5 | 0, 0) between them.
    found = value(student, teacher, CATKD(normalise=False)).item()
    assert found == pytest.approx((4 + 16 + 4 + 25) / 8, abs=1e-5)
    assert (catkd.weight, catkd.labels) == (40, 1)


def test_the_mean_of_a_classs_map_is_its_logit() -> None:
    """What class activation maps are: where the classifier reads the last map's mean, its logits taken apart."""
    map_BCHW, head = random(3, 6, 4, 4), nn.Linear(6, 5, bias=False)
    other, weight_KD = torch.zeros(3, 1, 1, 1), torch.zeros(5, 1)
    found = value((map_BCHW, head.weight), (other, weight_KD), CATKD(size=1, normalise=False))
    torch.testing.assert_close(found, head(map_BCHW.mean((2, 3))).square().mean())


def test_width_resolution_and_order_of_channels_do_not_matter() -> None:
    map_BCHW, weight_KD = random(3, 6, 4, 4), random(5, 6)
    order = torch.randperm(6)
    # Every pixel four times, every channel twice at half the weight, three times as strong.
    double = torch.cat((map_BCHW, map_BCHW), 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    for other in (
        (map_BCHW[:, order], weight_KD[:, order]),
        (3 * double, torch.cat((weight_KD, weight_KD), 1) / 2),
    ):
        assert value(other, (map_BCHW, weight_KD)).item() == pytest.approx(0, abs=1e-9)
    assert value((map_BCHW.flip(2), weight_KD), (map_BCHW, weight_KD)).item() > 0.1


def test_maps_and_classifier_both_learn() -> None:
    student = random(3, 6, 4, 4).requires_grad_(), random(5, 6).requires_grad_()
    value(student, (random(3, 4, 2, 2), random(5, 4))).backward()
    assert all(tensor.grad is not None and tensor.grad.abs().max() > 0 for tensor in student)


def test_a_convolution_as_classifier_will_do() -> None:
    student, teacher = (random(3, 6, 4, 4), random(5, 6)), (random(3, 4, 2, 2), random(5, 4))
    as_convolution = student[0], student[1][:, :, None, None]
    torch.testing.assert_close(value(as_convolution, teacher), value(student, teacher))


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_head_with_layers_before_the_classifier_is_refused(who: str) -> None:
    dims = {"student": 64, "teacher": 64, who: 1280}
    sizes = Sizes(((16, 8, 8), (64, 4, 4)), ((16, 8, 8), (64, 4, 4)), dims["student"], dims["teacher"], 10, 100)
    assert catkd.adapter is not None
    with pytest.raises(InvalidRequest, match=rf"{who}'s last map .* 64 channels .* 1280 features.*take at, sp or kd"):
        catkd.adapter(sizes, CATKD())


def test_a_network_whose_classifier_reads_its_last_map_is_taken() -> None:
    assert catkd.adapter is not None
    adapter = catkd.adapter(Sizes(((64, 4, 4),), ((128, 2, 2),), 64, 128, 10, 100), CATKD())
    assert list(adapter.parameters()) == []
