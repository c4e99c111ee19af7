from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import nn

from archsearch import domains
from archsearch.data import Dataset
from archsearch.domains.images import load_digits
from archsearch.domains.text.spec import TextData
from archsearch.request import LocalTeacher
from archsearch.spaces import spaces
from archsearch.testing import DomainContract


class TestImages(DomainContract):
    def dataset(self) -> Dataset:
        return load_digits()

    def student(self) -> nn.Module:
        torch.manual_seed(0)
        space = spaces.get("resnet_cifar")
        return space.build(space.smallest(self.dataset().task), self.dataset().task).eval()


_SCRATCH = TemporaryDirectory()  # removed when Python ends


@cache
def texts() -> tuple[Any, Dataset]:
    """A teacher and the data as it reads them."""
    pytest.importorskip("transformers", reason="the extra `text` is not installed")
    from tests.domains.text_classification.test_domain import write_texts
    from tests.zoos.transformers.encoders import write_folder

    folder, domain = Path(_SCRATCH.name), domains.get("text_classification")
    write_folder(folder / "teacher", "bert")
    table = domains.load(TextData(path=write_texts(folder / "texts.csv"), max_length=12, duplicates="warn"))
    teacher = domain.load_teacher(LocalTeacher(path=folder / "teacher", classes="as_is"), None, table)
    return teacher, domain.encode(table, teacher, None)


class TestTexts(DomainContract):
    def dataset(self) -> Dataset:
        return texts()[1]

    def teacher(self) -> Any:
        return texts()[0]

    def student(self) -> nn.Module:
        return domains.get("text_classification").open(texts()[0].folder)
