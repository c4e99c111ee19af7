from __future__ import annotations

import pytest
import torch

from archsearch.proxies import Undefined
from archsearch.proxies.trainability import trainability


def test_blocks_by_hand(evidence_of) -> None:
    # σ = 1 costs nothing, 2 and ½ cost the same: 2 − 2 − ½.
    gains = tuple(torch.tensor(gain) for gain in (1.0, 2.0, 0.5))
    assert float(trainability(evidence_of(spectral_gains=gains))) == pytest.approx(-1 / 3)


def test_it_is_exact_where_a_block_is_nearly_an_isometry(evidence_of) -> None:
    """2 − σ − 1/σ in float32 knows nothing smaller than 10⁻⁷."""
    near = torch.tensor(1.0009765625)
    expected = 2 - near.double() - 1 / near.double()
    assert float(trainability(evidence_of(spectral_gains=(near,)))) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("gain", [0.0, 1e-6, 1e6])
def test_a_block_cut_off_or_exploding_is_the_worst_there_is(evidence_of, gain: float) -> None:
    assert float(trainability(evidence_of(spectral_gains=(torch.tensor(gain),)))) == -4


def test_it_is_undefined_without_blocks(evidence_of) -> None:
    with pytest.raises(Undefined, match="no blocks"):
        trainability(evidence_of(spectral_gains=()))
