"""A student's folder is one that the transformers library alone loads, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import transformers

from archsearch.errors import InvalidRequest
from archsearch.zoos.transformers.network import build
from archsearch.zoos.transformers.save import open_student, save_student
from tests.zoos.transformers.encoders import CONFIGS, examples, task_of, write_tokenizer


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_student_comes_back_bit_for_bit_with_and_without_us(family: str, kind: Any, tmp_path: Path) -> None:
    task = task_of(family, kind=kind)
    write_tokenizer(tmp_path / "teacher")
    student = build(family, CONFIGS[family], task).eval()
    save_student(student, task, tmp_path / "student", tmp_path / "teacher")
    ours = open_student(tmp_path / "student")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert not ours.training
    state = student.network.state_dict()
    for other in (ours.network.state_dict(), theirs.state_dict()):
        assert state.keys() == other.keys()
        assert all(value.equal(other[name]) for name, value in state.items())
    x_B2T = examples(pad_id=CONFIGS[family]["pad_token_id"])
    segments = {"token_type_ids": x_B2T[:, 1].clamp(min=0)} if student.family.segments else {}
    with torch.no_grad():
        logits_BK = student(x_B2T)
        assert ours(x_B2T).equal(logits_BK)
        own = theirs(input_ids=x_B2T[:, 0], attention_mask=(x_B2T[:, 1] >= 0).long(), **segments)
    assert own.logits.equal(logits_BK)
    assert theirs.config.id2label == {0: "bad", 1: "so so", 2: "good"}
    assert theirs.config.problem_type == student.config.problem_type
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "student")
    assert tokenizer("word2 word7 strange")["input_ids"] == [2, 7, 1]
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["architectures"] == [type(student.network).__name__]
    assert str(tmp_path) not in json.dumps(config)


def test_what_is_no_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is no folder") as caught:
        open_student(tmp_path / "nowhere")
    assert caught.value.field == "folder"
