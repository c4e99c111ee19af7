"""Evidence of texts: padding counts for nothing, and input gradients are taken where ids have become numbers."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from archsearch.domains.text.task import TextTask
from archsearch.evidence import Evidence, Read, observe_student, observe_teacher
from archsearch.evidence.inputs import Leaf, real_tokens
from archsearch.evidence.passes import gains
from archsearch.evidence.watch import Watch
from archsearch.kernels import correlation, label_loss
from archsearch.proxies import Undefined, proxies
from archsearch.proxies.score import DEFAULT, score
from archsearch.testing.texts import VOCABULARY, TinyEncoder, longer, texts

# B batch, T tokens, D features, K classes

READS: frozenset[Read] = frozenset(get_args(Read))
Y_B = torch.arange(16) % 4


def encoder(seed: int = 0, dropout: float = 0.0) -> TinyEncoder:
    torch.manual_seed(seed)
    return TinyEncoder(dropout=dropout)


def observed(x_B2T: Tensor, reads: frozenset[Read] = READS, dropout: float = 0.0, y: Tensor = Y_B) -> Evidence:
    teacher = observe_teacher(encoder(7).eval(), x_B2T, y, reads)
    student = encoder(dropout=dropout)
    torch.manual_seed(0)
    return observe_student(student, x_B2T, y, teacher, reads)


def test_no_proxy_changes_when_a_batch_is_padded_further(subtests: pytest.Subtests) -> None:
    plain, padded = observed(texts()), observed(longer(texts(), 7))
    for proxy in proxies:
        with subtests.test(proxy=proxy.name):
            if proxy.name in ("zen", "synflow"):
                with pytest.raises(Undefined, match="tokens are no numbers"):
                    proxy.measure(plain)
            else:
                found = float(proxy.measure(padded))
                assert found == pytest.approx(float(proxy.measure(plain)), rel=1e-4, abs=1e-5)
    assert score(padded).value == pytest.approx(score(plain).value, abs=1e-5)
    assert padded.macs == plain.macs


@pytest.mark.parametrize("many", [False, True])
def test_the_default_score_is_of_tokens_whatever_padding_says(many: bool) -> None:
    y = torch.eye(4)[Y_B] if many else Y_B
    reads = frozenset[Read]().union(*(proxies.get(name).reads for name in DEFAULT))
    x_B2T = texts()
    other = x_B2T.clone()
    other[:, 0][x_B2T[:, 1] < 0] = VOCABULARY - 1
    values = [score(observed(x, reads, y=y)).value for x in (x_B2T, other, longer(other, 3))]
    assert values == pytest.approx([values[0]] * 3, abs=1e-5)
    assert values[0] != score(observed(texts(seed=1), reads, y=y)).value


def test_input_gradients_are_taken_at_the_embeddings_and_are_zero_at_padding() -> None:
    model, x_B2T = encoder(), texts()
    with Leaf(model, x_B2T, wanted=True) as leaf:
        loss = label_loss(model(leaf.x), Y_B)
    assert leaf.value.equal(model.embeddings(x_B2T))
    (gradient_BTD,) = torch.autograd.grad(loss, leaf.value)
    real_BT = real_tokens(x_B2T)
    assert real_BT is not None
    assert gradient_BTD[~real_BT].abs().max() == 0
    assert gradient_BTD[real_BT].abs().sum(1).min() > 0
    assert not model.embeddings._forward_hooks


def test_embeddings_that_are_frozen_have_input_gradients_too() -> None:
    model = encoder()
    model.embeddings.requires_grad_(False)
    with Leaf(model, texts(), wanted=True) as leaf:
        loss = label_loss(model(leaf.x), Y_B)
    (gradient_BTD,) = torch.autograd.grad(loss, leaf.value)
    assert gradient_BTD.any()


def test_images_are_their_own_leaf_and_have_no_padding() -> None:
    x_BCHW = torch.rand(2, 1, 4, 4)
    with Leaf(nn.Identity(), x_BCHW, wanted=True) as leaf:
        assert leaf.value is leaf.x
        assert leaf.x.requires_grad
    assert not x_BCHW.requires_grad
    assert real_tokens(x_BCHW) is None


def test_dropouts_noise_is_not_measured() -> None:
    plain, noisy = observed(texts()), observed(texts(), dropout=0.5)
    assert score(noisy).value == score(plain).value


def test_of_stages_the_means_of_real_tokens_are_compared() -> None:
    model, x_B2T = encoder().eval(), texts()
    with Watch(model, {"relations", "spectra", "codes"}, real_tokens(x_B2T)) as watch:
        model(x_B2T)
    tokens_BTD, real_BT = model.forward_features(x_B2T), x_B2T[:, 1] >= 0
    means_BD = torch.stack([row_TD[real_T].mean(0) for row_TD, real_T in zip(tokens_BTD, real_BT, strict=True)])
    torch.testing.assert_close(watch.grams_BB[-1], means_BD @ means_BD.T)
    together_ND = torch.cat([row_TD[real_T] for row_TD, real_T in zip(tokens_BTD, real_BT, strict=True)])
    torch.testing.assert_close(
        watch.spectra[-1], torch.linalg.eigvalsh(torch.cov(together_ND.T, correction=0)), rtol=1e-3, atol=1e-5
    )
    assert watch.units == 2 * 24, "one number a unit of either layer's activation"


def test_only_real_outputs_are_probed_and_counted() -> None:
    """A block that triples its input has a gain of 3, whatever stands in the padding."""
    mask_BT = torch.tensor([[True, True, False], [True, False, False]])
    input_BTD = torch.randn(2, 3, 5, requires_grad=True)
    scale_BT1 = torch.where(mask_BT, 3.0, 100.0)[:, :, None]
    (gain,) = gains([(input_BTD, input_BTD * scale_BT1)], spectral=False, mask_BT=mask_BT)
    assert gain.item() == pytest.approx(3)


def test_a_correlation_of_real_positions_by_hand() -> None:
    """(1, 3) and (2, 2 + 2): centred (−1, 1) both, and the third number of either is padding."""
    features_BN1 = torch.tensor([[1.0, 3.0, 50.0], [2.0, 4.0, -50.0]])[:, :, None]
    mask_BN = torch.tensor([[True, True, False]] * 2)
    torch.testing.assert_close(correlation(features_BN1, mask_BN), torch.ones(2, 2))


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_encoders_of_the_library_are_measured_alike(family: str) -> None:
    pytest.importorskip("transformers")
    from archsearch.zoos.transformers.network import build

    task = TextTask(4, 32, VOCABULARY, 0, pair=False)
    small = {"vocab_size": VOCABULARY, "pad_token_id": 0, "max_position_embeddings": 40}
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "distilbert":
        shape = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}

    def one(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build(family, {**small, **shape}, task)

    def evidence(x_B2T: Tensor) -> Evidence:
        reads = READS - {"grasp"}
        teacher = observe_teacher(one(1).eval(), x_B2T, Y_B, reads)
        student = one(0)
        torch.manual_seed(0)
        return observe_student(student, x_B2T, Y_B, teacher, reads)

    plain, padded = evidence(texts()), evidence(longer(texts(), 7))
    assert score(padded).value == pytest.approx(score(plain).value, abs=1e-5)
    assert len(plain.gains) == 2, "its layers are its blocks"
    for name in ("naswot", "relation", "cka", "jacob_cov", "kd_snip", "zico", "swap"):
        found = float(proxies.get(name).measure(padded))
        assert found == pytest.approx(float(proxies.get(name).measure(plain)), rel=1e-3, abs=1e-5), name
