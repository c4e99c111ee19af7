from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from archsearch.distill.loss import LossInputs, Outputs, losses
from archsearch.distill.method import check_method, features_alone, settle
from archsearch.distill.objective import objective
from archsearch.domains.images.task import ImageTask
from archsearch.domains.text.task import TextTask
from archsearch.errors import InvalidRequest, UnknownName
from archsearch.request import DistillSpec

# B batch, K classes


def task(classes: int = 10, kind: Any = "classification") -> ImageTask:
    return ImageTask(classes, 3, 8, 8, (0.5,) * 3, (0.25,) * 3, kind=kind)


def batch() -> LossInputs:
    draw = torch.Generator().manual_seed(0)
    student_BK, teacher_BK = (torch.randn(6, 5, generator=draw) for _ in range(2))
    return LossInputs(Outputs(student_BK), Outputs(teacher_BK), torch.tensor([0, 1, 2, 3, 4, 0]), torch.arange(6))


def value(**fields: Any) -> float:
    return objective(DistillSpec(**fields)).value(batch(), {}).total.item()


def test_a_method_alone_has_its_published_weights() -> None:
    found = objective(DistillSpec(method="kd"))
    assert found.describe() == {"labels": 0.1, "losses": {"kd": {"weight": 0.9, "temperature": 4.0}}}
    assert objective(DistillSpec(method="none")).reads == frozenset()


def test_a_sum_is_the_sum_of_its_parts() -> None:
    labels = value(method="none")
    kd = value(losses={"kd": {"weight": 1, "temperature": 2}}, labels=0)
    dist = value(losses={"dist": {"weight": 1}}, labels=0)
    both = value(losses={"kd": {"weight": 3, "temperature": 2}, "dist": {"weight": 0.5}})
    assert both == pytest.approx(labels + 3 * kd + 0.5 * dist, rel=1e-5)


def test_a_sum_comes_with_its_terms_as_weighted() -> None:
    labels, kd = value(method="none"), value(losses={"kd": {"weight": 1}}, labels=0)
    found = objective(DistillSpec.model_validate({"losses": {"kd": {"weight": 3}}, "labels": 0.5})).value(batch(), {})
    assert {name: term.item() for name, term in found.terms.items()} == {
        "labels": pytest.approx(0.5 * labels),
        "kd": pytest.approx(3 * kd),
    }
    assert found.numbers().tolist() == [found.total.item(), *(term.item() for term in found.terms.values())]


def test_alpha_and_temperature_are_short_for_kds_settings() -> None:
    assert value(method="kd", alpha=0.3, temperature=2) == pytest.approx(
        value(losses={"kd": {"weight": 0.3, "temperature": 2}}, labels=0.7)
    )
    assert value(method="kd") == value(method="kd", alpha=0.9, temperature=4)
    # Requests of before always carried both.
    assert value(method="none", alpha=0.9, temperature=4) == value(method="none")


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"method": "dkd", "alpha": 0.5}, "distill.alpha", "weigh dkd by losses"),
        ({"method": "at", "temperature": 2}, "distill.temperature", "at has no temperature"),
        ({"losses": {"kd": {"temprature": 2}}}, "distill.losses.kd.temprature", "settings of kd: temperature"),
        ({"losses": {"kd": {"temperature": -1}}}, "distill.losses.kd.temperature", "greater than or equal"),
    ],
)
def test_settings_a_loss_does_not_have_are_refused_by_name(fields: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        objective(DistillSpec(**fields))
    assert caught.value.field == field


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean .*kd") as caught:
        objective(DistillSpec(losses={"kdd": {}}))
    assert caught.value.field == "distill.losses.kdd"


@pytest.mark.parametrize("name", ["dkd", "dist", "kd_std"])
def test_with_two_classes_what_compares_classes_is_refused_with_the_reason_and_what_to_take(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"2 classes.*kd") as caught:
        check_method(DistillSpec(method=name), task(2))
    assert caught.value.field == "distill.method"
    check_method(DistillSpec(method=name), task(3))


def test_a_loss_for_another_kind_of_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(InvalidRequest, match=r"kd is not defined for multilabel tasks; take one of .*mld"):
        check_method(DistillSpec(method="kd"), task(kind="multilabel"))
    with pytest.raises(InvalidRequest, match=r"mld is not defined for classification tasks"):
        check_method(DistillSpec(losses={"mld": {}}), task())


@pytest.mark.parametrize("name", ["at", "fam", "reviewkd", "fitnet", "catkd", "blockwise"])
def test_what_compares_maps_is_refused_where_words_stand_in_a_row(name: str) -> None:
    words = TextTask(3, 64, 100, 0, pair=False)
    with pytest.raises(InvalidRequest, match=rf"{name} compares maps.*take one of .*\bkd\b.*\bsp\b") as caught:
        check_method(DistillSpec(method=name), words)
    assert caught.value.field == "distill.method"
    assert "fitnet" not in str(caught.value).partition("take one of")[2]
    check_method(DistillSpec(losses={"sp": {}, "kd": {}}), words)


@pytest.mark.parametrize("kind", [task(2), task(3), task(100), task(20, "multilabel")])
def test_auto_chooses_what_the_task_allows_and_says_why(kind: ImageTask) -> None:
    chosen = settle(DistillSpec(method="auto"), kind)
    assert chosen.why
    check_method(chosen.spec, kind)
    assert losses.get(chosen.spec.method).reads == {"logits"}
    assert settle(DistillSpec(method="dkd"), kind).why is None


@pytest.mark.parametrize(("kind", "answers"), [("classification", "kd"), ("multilabel", "mld")])
def test_auto_takes_for_texts_answers_and_for_half_of_the_training_relations_and_says_why(
    kind: Any, answers: str
) -> None:
    words = TextTask(2, 64, 100, 0, pair=False, kind=kind)
    chosen = settle(DistillSpec(), words)
    assert chosen.name == f"{answers}+minilm"
    assert chosen.why
    assert "how words relate" in chosen.why
    check_method(DistillSpec(), words)
    found = objective(chosen.spec, words).describe()
    assert found["labels"] == (0.5 if kind == "classification" else 1)
    assert found["losses"]["minilm"]["until"] == 0.5
    assert settle(chosen.spec, words).spec == chosen.spec, "what is settled stays so"
    assert objective(settle(DistillSpec(labels=2), words).spec, words).labels == 2
    assert DistillSpec.model_validate(chosen.spec.model_dump()) == chosen.spec


def test_alpha_and_temperature_choose_the_method_they_are_of() -> None:
    assert settle(DistillSpec(alpha=0.3), task()).spec.method == "kd"
    assert settle(DistillSpec(temperature=2), task()).spec.method == "kd"
    assert settle(DistillSpec(temperature=2), TextTask(2, 64, 100, 0, pair=False)).name == "kd"
    assert settle(DistillSpec(), task()).spec.method != "kd"


def test_auto_is_left_open_until_the_task_is_known() -> None:
    check_method(DistillSpec(method="auto"))
    assert settle(DistillSpec(method="auto")).spec.method == "auto"


def test_uneven_classes_count_alike_in_the_labels_loss() -> None:
    uneven = replace(task(2), prevalence=(0.8, 0.2))
    # One of five is of the rare class: its image counts for 1 / (2 · 0.2), the others for 1 / (2 · 0.8).
    weights = objective(DistillSpec(method="none"), uneven).weight_K
    assert weights == pytest.approx((0.625, 2.5))
    logits_BK = torch.tensor([[2.0, 0.0]] * 5)
    y = torch.tensor([0, 0, 0, 0, 1])
    loss = (
        objective(DistillSpec(method="none"), uneven)
        .value(LossInputs(Outputs(logits_BK), None, y, torch.arange(5)), {})
        .total
    )
    common, rare = torch.nn.functional.cross_entropy(logits_BK[[0, 4]], y[[0, 4]], reduction="none").tolist()
    assert loss.item() == pytest.approx((4 * 0.625 * common + 2.5 * rare) / 5)
    sharp = DistillSpec.model_validate({"losses": {"label_smoothing": {"smoothing": 0}}, "labels": 0})
    same = objective(sharp, uneven).value(LossInputs(Outputs(logits_BK), None, y, torch.arange(5)), {}).total
    torch.testing.assert_close(same, loss)


def test_classes_are_weighed_where_it_is_asked_for_or_they_are_uneven() -> None:
    even, uneven = (replace(task(2), prevalence=shares) for shares in ((0.6, 0.4), (0.9, 0.1)))

    def weighed(choice: str, on: ImageTask) -> bool:
        return objective(DistillSpec.model_validate({"class_weights": choice, "method": "kd"}), on).weight_K is not None

    assert [weighed(choice, even) for choice in ("auto", "none", "balanced")] == [False, False, True]
    assert [weighed(choice, uneven) for choice in ("auto", "none", "balanced")] == [True, False, True]


def test_a_teacher_whose_answers_are_not_learned_from_is_learned_from_by_its_features() -> None:
    assert features_alone(DistillSpec()).method == "cosine"
    for method in ("fitnet", "rkd", "none"):
        assert features_alone(DistillSpec(method=method)).method == method
    sums = DistillSpec.model_validate({"losses": {"cosine": {}, "kd": {}}})
    for spec, field in ((DistillSpec(method="dkd"), "distill.method"), (sums, "distill.losses.kd")):
        with pytest.raises(InvalidRequest, match=r"or teacher\.head probe") as caught:
            features_alone(spec)
        assert caught.value.field == field
