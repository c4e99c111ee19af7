"""Encoders of texts that are cut out of one that was fine-tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import archsearch
from archsearch import domains
from archsearch.domains.text.spec import TextData
from archsearch.inherit import Inheritance, make_ready
from archsearch.request import LocalTeacher
from tests.domains.text_classification.test_domain import write_texts
from tests.zoos.transformers.encoders import write_folder

pytestmark = pytest.mark.slow
DOMAIN = domains.get("text_classification")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that can tell the texts apart, and the texts."""
    folder = tmp_path_factory.mktemp("texts")
    write_folder(folder / "encoder", "bert")
    texts = {"kind": "text", "path": str(write_texts(folder / "texts.csv", 300)), "max_length": 12}
    spec = {"epochs": 12, "batch_size": 16, "lr": 3e-3}
    taught = archsearch.train_teacher(texts, folder / "teacher", pretrained=folder / "encoder", spec=spec)
    assert taught["test_acc"] > 90
    return folder


@pytest.fixture(scope="module")
def ready(home: Path) -> Inheritance:
    table = domains.load(TextData(path=home / "texts.csv", max_length=12))
    teacher: Any = DOMAIN.load_teacher(LocalTeacher(path=home / "teacher"), None, table)
    return make_ready(teacher, DOMAIN.encode(table, teacher, None))


def nats(ready: Inheritance, *, mend: bool = True, **sizes: int) -> float:
    torch.manual_seed(0)
    task = ready.task
    return ready.nats(ready.space_of(mend=mend).begin({**ready.space.largest(task), **sizes}, task))


def test_what_is_left_of_an_encoder_is_mended(ready: Inheritance) -> None:
    assert ready.shown.tokens_BT is not None
    assert not ready.shown.tokens_BT.all(), "some texts are shorter than others"
    assert nats(ready) == pytest.approx(0, abs=1e-6)
    for sizes in ({"heads": 1}, {"ffn": 6}, {"layers": 1}, {"layers": 1, "heads": 1, "ffn": 12}):
        cut, mended = (nats(ready, mend=mend, **sizes) for mend in (False, True))
        assert mended < 0.8 * cut or mended < 0.02, sizes


def test_a_student_that_is_cut_out_of_its_encoder_beats_one_of_noise(home: Path, tmp_path: Path) -> None:
    found = {}
    for init in ("teacher", "scratch"):
        asked = {
            "teacher": {"kind": "local", "path": str(home / "teacher")},
            "data": {"kind": "text", "path": str(home / "texts.csv"), "max_length": 12},
            "budget": {"params_ratio": 0.8},
            "search": {"space": "teacher", "candidates": 4},
            "distill": {"epochs": 1, "batch_size": 64, "init": init},
        }
        found[init] = archsearch.run(asked, tmp_path / init)["student"]
        assert found[init]["start"] == init
    assert found["teacher"]["test_acc"] > found["scratch"]["test_acc"] + 5
