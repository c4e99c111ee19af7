"""Students of texts learn from what encoders of the library show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers", reason="the extra `text` is not installed")

from archsearch import domains
from archsearch.data import Dataset
from archsearch.distill.train import train
from archsearch.domains.text.spec import TextData
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.zoos.transformers.network import build
from tests.domains.text_classification.test_domain import NAMES, write_texts
from tests.zoos.transformers.encoders import write_folder

DOMAIN = domains.get("text_classification")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Dataset]:
    """A teacher, and the data as it reads them."""
    folder = tmp_path_factory.mktemp("texts")
    names: Any = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    write_folder(folder / "teacher", "bert", **names)
    table = domains.load(TextData(path=write_texts(folder / "texts.csv"), max_length=12, duplicates="warn"))
    teacher = DOMAIN.load_teacher(LocalTeacher(path=folder / "teacher"), None, table)
    return teacher, DOMAIN.encode(table, teacher, None)


def student(dataset: Dataset, seed: int = 0) -> nn.Module:
    """As wide as no teacher is, with other heads."""
    task: Any = dataset.task
    args = {"vocab_size": task.vocab_size, "pad_token_id": task.pad_id, "hidden_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 16, "max_position_embeddings": 16}  # fmt: skip
    torch.manual_seed(seed)
    return build("bert", args, task)


def trained(taught: tuple[Any, Dataset], **spec: Any) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The student's weights, and the terms of its loss at every epoch."""
    teacher, dataset = taught
    model = student(dataset)
    fixed = {"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    reports = list(train(model, dataset, DistillSpec.model_validate({**fixed, **spec}), teacher=teacher))
    return model.state_dict(), [dict(report.terms) for report in reports if report.terms]


@pytest.mark.parametrize(
    ("spec", "terms"),
    [
        ({}, {"labels", "kd", "minilm"}),
        ({"method": "tinybert"}, {"tinybert"}),
        ({"losses": {"sp": {}, "minilm": {"layer": "middle"}, "tinybert": {}}}, {"labels", "sp", "minilm", "tinybert"}),
    ],
)
def test_a_student_learns_from_its_teachers_layers(
    taught: tuple[Any, Dataset], spec: dict[str, Any], terms: set[str]
) -> None:
    before = {name: value.clone() for name, value in student(taught[1]).state_dict().items()}
    after, told = trained(taught, **spec)
    assert all(set(each) == terms for each in told)
    assert all(value > 0 for name, value in told[0].items())
    assert any(not after[name].equal(value) for name, value in before.items() if "query" in name)
    if not spec:
        assert told[-1]["minilm"] == 0, "relations are silent in the second half"
    if spec.get("method") == "tinybert":
        again, _ = trained(taught, **spec)
        assert all(again[name].equal(value) for name, value in after.items())


def test_what_compares_maps_is_refused(taught: tuple[Any, Dataset]) -> None:
    with pytest.raises(InvalidRequest, match=r"at compares maps, and what networks of texts show lies on no grid"):
        trained(taught, method="at")


def test_teachers_that_name_no_attention_are_refused_with_what_to_take(taught: tuple[Any, Dataset]) -> None:
    teacher, dataset = taught
    headless = student(dataset)
    headless.attention_modules = list  # type: ignore[assignment]
    with pytest.raises(InvalidRequest, match=r"the student names no attention.*such as kd"):
        list(train(headless, dataset, DistillSpec(epochs=1, batch_size=16, device="cpu"), teacher=teacher))
