"""What a teacher shows of texts is asked for once, and is what it would show at every step."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the extra `text` is not installed")

from archsearch import domains
from archsearch.distill import remembered
from archsearch.distill.learner import prepare
from archsearch.distill.remembered import Remembered, lengths
from archsearch.distill.teacher_source import Online, TeacherSource
from archsearch.distill.train import train
from archsearch.domains.text.spec import TextData
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.spaces.space import spaces
from tests.domains.text_classification.test_domain import write_texts
from tests.zoos.transformers.encoders import NAMES, write_folder

DOMAIN = domains.get("text_classification")
RELATIONS: dict[str, Any] = {"losses": {"kd": {}, "minilm": {"weight": 1}}}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("texts")
    names: Any = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    write_folder(folder / "teacher", "bert", **names)
    table = domains.load(TextData(path=write_texts(folder / "texts.csv"), max_length=12, duplicates="warn"))
    teacher = DOMAIN.load_teacher(LocalTeacher(path=folder / "teacher"), None, table)
    return teacher, DOMAIN.encode(table, teacher, None)


def student(dataset: Any) -> Any:
    torch.manual_seed(0)
    return spaces.get("bert").build({"layers": 2, "heads": 1, "ffn_ratio": 1}, dataset.task)


def recipe(**fields: Any) -> DistillSpec:
    fixed = {"epochs": 3, "batch_size": 16, "device": "cpu", "precision": "fp32"}
    return DistillSpec.model_validate({**fixed, **fields})


def source(opened: tuple[Any, Any], stack: ExitStack, **fields: Any) -> TeacherSource:
    teacher, dataset = opened
    side = prepare(student(dataset), dataset, recipe(**fields), teacher, device="cpu", cache=None, stack=stack)
    assert side.source is not None
    return side.source


def test_what_is_remembered_is_what_the_teacher_shows(opened: tuple[Any, Any]) -> None:
    teacher, dataset = opened
    asked = []
    with ExitStack() as stack:
        once = source(opened, stack, **RELATIONS)
        handle = teacher.model.register_forward_pre_hook(lambda _module, inputs: asked.append(len(inputs[0])))
        stack.callback(handle.remove)
        anew = source(opened, stack, **RELATIONS, view_cache="off")
        assert isinstance(once, Remembered)
        assert isinstance(anew, Online)
        asked.clear()
        for batch in DOMAIN.loader(dataset, recipe(), "cpu", _alone()).epoch(0, 0):
            shown, expected = once.outputs(batch), anew.outputs(batch)
            torch.testing.assert_close(shown.answers_MK, expected.answers_MK)
            assert [each is None for each in shown.attention] == [True, False]
            ours, theirs = shown.attention[-1], expected.attention[-1]
            assert ours is not None
            assert theirs is not None
            assert ours.heads == theirs.heads
            assert ours.mask_BT is not None
            for name in ("query_BTD", "key_BTD", "value_BTD"):
                torch.testing.assert_close(getattr(ours, name)[ours.mask_BT], getattr(theirs, name)[ours.mask_BT])
        # Every text once by what remembers, and once more each here.
        assert sum(asked) == len(dataset.train) + 16 * (len(dataset.train) // 16)


def _alone() -> Any:
    from archsearch.distill.group import Group

    return Group()


def test_a_training_that_is_interrupted_ends_with_the_same_bits(opened: tuple[Any, Any], tmp_path: Path) -> None:
    teacher, dataset = opened
    whole, halved, spec = student(dataset), student(dataset), recipe(**RELATIONS)
    for _ in train(whole, dataset, spec, teacher=teacher):
        pass
    course: Any = train(halved, dataset, spec, teacher=teacher, checkpoint_path=tmp_path / "checkpoint")
    next(course)
    course.close()
    again = student(dataset)
    for _ in train(again, dataset, spec, teacher=teacher, checkpoint_path=tmp_path / "checkpoint"):
        pass
    assert all(value.equal(again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_what_does_not_fit_or_is_more_than_attention_is_asked_at_every_step(
    opened: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = int(lengths(opened[1].train).sum())
    with ExitStack() as stack:
        assert isinstance(source(opened, stack, method="tinybert"), Online)
        # Three projections of one layer, of 16 features of four bytes.
        monkeypatch.setattr(remembered, "MOST_BYTES", tokens * 3 * 16 * 4)
        assert isinstance(source(opened, stack, **RELATIONS), Remembered)
        monkeypatch.setattr(remembered, "MOST_BYTES", tokens * 3 * 16 * 4 - 1)
        assert isinstance(source(opened, stack, **RELATIONS), Online)
