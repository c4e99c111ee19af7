from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from archsearch.errors import UnknownName
from archsearch.evidence import Evidence, observe_student
from archsearch.proxies import Undefined, proxies
from archsearch.proxies.score import DEFAULT, check_weights, default_weights, mean, reads, score


def with_gradients(evidence: Evidence, name: str, change) -> Evidence:
    """The evidence with one kind of gradients changed."""
    changed = tuple(replace(weight, gradient=change(weight.gradient)) for weight in evidence.measured[name])
    return replace(evidence, measured={**evidence.measured, name: changed})


def test_a_score_is_absolute(pair) -> None:
    """Whatever else was scored in between, and with whatever weights, changes nothing."""
    first = score(pair.evidence(seed=0))
    other = score(pair.evidence(seed=5))
    score(pair.evidence(seed=5), {"grad_norm": 2.0})
    assert score(pair.again) == first != other


def test_votes_are_weighted_nats_and_add_up(pair) -> None:
    weights = {"hm": 1.0, "snip": 0.5, "relation": 3.0}
    result = score(pair.evidence(), weights)
    assert result.votes.keys() == weights.keys()
    assert result.value == pytest.approx(sum(result.votes.values()))
    assert result.votes["hm"] == pytest.approx(math.log(result.proxies["hm"]))
    assert result.votes["snip"] == pytest.approx(0.5 * math.log(result.proxies["snip"]))
    assert result.votes["relation"] == pytest.approx(3 * result.proxies["relation"])


def test_every_proxy_is_measured_and_only_voters_vote(pair) -> None:
    result = score(pair.evidence())
    assert list(result.proxies) == proxies.names()
    assert result.votes.keys() == DEFAULT.keys()


def test_twice_the_magnitude_is_worth_ln_2(pair) -> None:
    evidence = pair.evidence()
    doubled = with_gradients(evidence, "label_gradients", lambda gradient: 2 * gradient)
    gain = score(doubled, {"hm": 1.0, "snip": 1.0}).value - score(evidence, {"hm": 1.0, "snip": 1.0}).value
    assert gain == pytest.approx(math.log(2), abs=1e-5)


def test_an_unknown_voter_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'snip'") as caught:
        check_weights({"hm": 1.0, "snp": 1.0})
    assert caught.value.field == "search.score"
    check_weights(None)
    check_weights(DEFAULT)


def test_what_is_read_is_what_voters_say(pair) -> None:
    assert reads({"hm": 1.0, "kd_snip": 1.0}) == {"gradients"}
    assert reads() == frozenset().union(*(proxies.get(name).reads for name in DEFAULT))
    evidence = pair.fresh_evidence(reads=reads())
    result = score(evidence)
    # Whatever the same measurements allow is measured, the closed forms of size among them, and nothing else.
    assert {"params", "macs", "depth", "hm", "minrank", *DEFAULT} <= result.proxies.keys()
    assert "snip" not in result.proxies


def test_a_dead_network_has_no_score(pair) -> None:
    student = pair.student()
    for parameter in student.parameters():
        parameter.data.zero_()
    evidence = observe_student(student, pair.x_BCHW, pair.y_B, pair.teacher_evidence, reads() | {"label_gradients"})
    with pytest.raises(Undefined, match=r"snip is 0\.0: no signal passes through the network"):
        score(evidence, {"hm": 1.0, "snip": 1.0})
    with pytest.raises(Undefined, match="no signal passes"):
        score(evidence)
    assert score(evidence, {"hm": 1.0}).votes.keys() == {"hm"}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_does_not_vote_and_is_not_kept(pair, broken: float) -> None:
    """A number that JSON and PostgreSQL refuse must not get into a trial."""
    evidence = with_gradients(pair.evidence(), "label_gradients", lambda gradient: torch.full_like(gradient, broken))
    with pytest.raises(Undefined, match=f"snip is {broken}"):
        score(evidence, {"snip": 1.0})
    result = score(evidence, {"hm": 1.0})
    assert result.proxies["snip"] is None
    assert all(value is None or math.isfinite(value) for value in result.proxies.values())


def test_an_undefined_proxy_that_does_not_vote_is_none(pair) -> None:
    evidence = pair.evidence()
    evidence = replace(evidence, teacher=replace(evidence.teacher, head_gradient_KD=torch.ones(10, 7)))
    assert score(evidence, {"hm": 1.0}).proxies["semantic"] is None
    with pytest.raises(Undefined, match="7"):
        score(evidence, {"semantic": 1.0})


def test_seeds_are_averaged_in_nats(pair) -> None:
    scores = [score(pair.evidence(seed), {"hm": 1.0, "snip": 1.0}) for seed in (0, 1)]
    averaged = mean(scores)
    assert averaged.value == pytest.approx((scores[0].value + scores[1].value) / 2)
    assert averaged.votes["snip"] == pytest.approx((scores[0].votes["snip"] + scores[1].votes["snip"]) / 2)
    assert averaged.votes["snip"] != pytest.approx(scores[0].votes["snip"], rel=1e-9)
    assert mean(scores[:1]) is scores[0]


def test_each_domain_has_its_own_voters() -> None:
    assert default_weights() == default_weights("image_classification") == DEFAULT
    assert default_weights("text_classification") == {"encoder_size": 1.0}
    check_weights(default_weights("text_classification"))
    assert reads(None, "text_classification") == frozenset(), "shapes alone decide"
    assert reads({"isometry": 1.0}, "text_classification") == proxies.get("isometry").reads
