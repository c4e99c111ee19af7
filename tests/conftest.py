"""What all tests share: real data, small enough, and one teacher that really knows something."""

from __future__ import annotations

import gc
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from archsearch.data import Dataset
from archsearch.domains.images import load_digits
from archsearch.domains.images.task import ImageSplit, ImageTask

# Tiny nets gain nothing from threads, and on a busy machine threads wait for one another: seven times as long here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Networks with weights join searches; which of them this machine happens to have at hand is no matter of a test's.
os.environ["HF_HUB_CACHE"] = str(Path(__file__).parent / "no-such-cache")
os.environ.pop("ARCHSEARCH_PRETRAINED_DIR", None)

pytest_plugins = ["tests.postgres_server", "tests.small_disk", "tests.data_files"]

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_finish() -> None:
    """By now torch, timm and all tests are there to stay: a garbage collection need not look through them each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


# What takes longest begins first, or one process would be left alone with it at the end.
LONGEST = (
    "service/test_outage.py",
    "distill/test_train.py",
    "service/test_kill.py",
    "test_figures.py",
    "api/test_whole_api.py",
    "distill/test_group.py",
    "service/test_budgets.py",
    "elsewhere/test_elsewhere.py",
    "test_streamed_training.py",
    "test_local.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, those with many tests next, as they are spread; tests marked `shared` skip themselves
    where the evaluation data are absent."""
    here, sizes = Path(__file__).parent, Counter(item.path for item in items)
    rank = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -sizes[item.path]))
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason=f"no evaluation data in {SHARED}"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the evaluation data; for tests marked `shared`."""
    return SHARED


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    """256 of the digits to learn from and 128 to select and test on, for what is trained or searched in a test."""

    def first(split: ImageSplit, count: int) -> ImageSplit:
        return ImageSplit(split.x_NHWC[:count], split.y_N[:count])

    return replace(
        digits,
        train=first(digits.train, 256),
        selection=first(digits.selection, 128),
        test=first(digits.test, 128),
        sha256="few" + digits.sha256[3:],
    )


@pytest.fixture(scope="session")
def gray_task(digits: Dataset) -> ImageTask:
    """8×8 pixels, one channel, ten classes."""
    return digits.task


@pytest.fixture(scope="session")
def colour_task() -> ImageTask:
    """32×32 pixels, three channels, a hundred classes: CIFAR-100's shape."""
    return ImageTask(100, 3, 32, 32, (0.51, 0.49, 0.44), (0.27, 0.26, 0.28))


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `archsearch train-teacher` leaves it: a ResNet that tells digits apart after a few epochs."""
    from archsearch.teaching import train_teacher

    folder = tmp_path_factory.mktemp("teacher") / "teacher"
    train_teacher(
        {"kind": "digits"},
        folder,
        model_args={"depths": [1, 1, 1], "widths": [16, 24, 32]},
        spec={"epochs": 3, "batch_size": 64, "augment": "none"},
    )
    return folder


@pytest.fixture(scope="session")
def teacher(teacher_folder: Path):
    from archsearch.request import LocalTeacher
    from archsearch.teachers import load_teacher

    return load_teacher(LocalTeacher(path=teacher_folder))


@pytest.fixture(scope="session")
def pairs() -> Dataset:
    """Two digits side by side on 8×16 pixels, labelled with both: many labels an image, no digit in two splits."""
    from archsearch.testing.images import two_digits

    return two_digits()
