from __future__ import annotations

import math

import pytest
import torch

from archsearch.proxies import Undefined
from archsearch.proxies.progressivity import progressivity


def test_three_blocks_by_hand(evidence_of) -> None:
    # Entropies 0, ln 4, ln 2: growth of ln 4, then −ln 2.
    spectra = (torch.tensor([0.0, 1.0]), torch.ones(4), torch.tensor([0.0, 5.0, 5.0]))
    assert progressivity(evidence_of(spectra=spectra)) == pytest.approx(-math.log(2), abs=1e-6)
    assert progressivity(evidence_of(spectra=spectra[:2])) == pytest.approx(math.log(4), abs=1e-6)


def test_it_is_undefined_for_a_single_block(evidence_of) -> None:
    with pytest.raises(Undefined, match="single block"):
        progressivity(evidence_of(spectra=(torch.ones(4),)))
