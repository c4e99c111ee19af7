from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.data.task import Dataset
from benchmarks.distill_speed.images import load_images
from benchmarks.distill_speed.setting import Pair, Setting


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    dataset = few_images(8)
    return Setting(Pair("14", "8"), 8, dataset, "cpu", "fp32", workers=0, warmup=1, steps=2, home=tmp_path / "views")


def few_images(count: int) -> Dataset:
    dataset, _ = load_images(None)
    return replace(dataset, train=dataset.train.take(slice(0, count)))
