"""What a teacher takes is known before it is built or asked."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.data import Dataset
from archsearch.data.batches import effort, free_bytes
from archsearch.data.shape import Shape
from archsearch.errors import ArchsearchError, Cancelled, InvalidRequest, TooMuchMemory
from archsearch.request import UploadedTeacher
from archsearch.teachers import Teacher, check_source, check_teacher, load_teacher
from archsearch.teachers.size import input_bytes

# B batch, C channels, H W space


@pytest.mark.parametrize(
    "args", [{"depths": [65536, 1, 1]}, {"layers": [1000, 1000, 49]}, {"depth": 4096}, {"num_blocks": [[2000], [49]]}]
)
def test_more_blocks_than_any_network_has_are_refused_at_once(source: UploadedTeacher, args: dict[str, Any]) -> None:
    (name,) = args
    with pytest.raises(InvalidRequest, match="blocks are more than any network has") as caught:
        check_source(source.model_copy(update={"model_args": args}))
    assert caught.value.field == f"source.model_args.{name}"


def test_blocks_are_held_against_the_tensors_there_are_before_anything_is_built(
    source: UploadedTeacher, teacher_folder: Path
) -> None:
    deep = source.model_copy(update={"model_args": {**source.model_args, "depths": [2000, 1, 1]}})
    started = time.monotonic()
    with pytest.raises(InvalidRequest, match=r"2,002 blocks do not go with weights of \d+ tensors") as caught:
        load_teacher(deep, teacher_folder / "model.safetensors")
    assert caught.value.field == "model_args.depths"
    assert time.monotonic() - started < 1  # built, even on the meta device, it takes several seconds


def test_depths_of_real_networks_are_welcome(source: UploadedTeacher, teacher_folder: Path) -> None:
    check_source(
        source.model_copy(update={"model_args": {"layers": [3, 24, 36, 3], "depth": 48, "depths": [2, 2, 18]}})
    )
    assert load_teacher(source, teacher_folder / "model.safetensors").num_classes == 10


def test_an_image_is_measured_without_computing_it(teacher: Teacher) -> None:
    x_1CHW = torch.zeros(1, 1, 32, 32)
    with torch.inference_mode():
        really = x_1CHW.nbytes + effort(lambda: teacher.model(x_1CHW)).bytes
    estimate = input_bytes(teacher.model, Shape((1, 32, 32)))
    assert estimate is not None
    assert really <= estimate < 1.5 * really
    assert input_bytes(teacher.model, Shape((3, 32, 32))) is None  # it takes no such images


def test_a_single_image_beyond_the_memory_there_is_is_refused_with_the_estimate(
    teacher: Teacher, digits: Dataset
) -> None:
    side = 64 * int((free_bytes() / 2**14) ** 0.5)
    huge = dataclasses.replace(teacher, input_hw=(side, side))
    with pytest.raises(
        TooMuchMemory, match=r"would take about [\d,]+ GB of memory, .* give a smaller input_size"
    ) as caught:
        check_teacher(huge, digits)
    assert caught.value.field == "input_size"


class Hungry(torch.nn.Module):
    """A network that takes 64 MiB an image, and writes down how many it is asked about at once."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, list[int]()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if x_BCHW.device.type == "cpu":
            self.seen.append(len(x_BCHW))
        spare_BCHW = x_BCHW.repeat(1, 2**18, 1, 1)
        logits_BK: torch.Tensor = self.inner(x_BCHW) + 0 * spare_BCHW[:, 0, 0, :1]
        return logits_BK


def test_a_small_teacher_that_takes_much_is_asked_about_a_few_images_at_a_time(
    teacher: Teacher, few_digits: Dataset
) -> None:
    few = dataclasses.replace(few_digits, selection=few_digits.selection.take(slice(0, 24)))
    hungry = Hungry(teacher.model)
    assert check_teacher(dataclasses.replace(teacher, model=hungry), few) == check_teacher(teacher, few)
    assert max(hungry.seen) <= 8


def test_a_check_that_is_cancelled_ends_after_the_batch_it_is_in(teacher: Teacher, few_digits: Dataset) -> None:
    told: list[tuple[int, int]] = []

    def stop(done: int, of: int) -> None:
        told.append((done, of))
        raise Cancelled("enough")

    hungry = Hungry(teacher.model)
    with pytest.raises(ArchsearchError, match="enough"):
        check_teacher(dataclasses.replace(teacher, model=hungry), few_digits, report=stop)
    assert (len(told), told[0][1]) == (1, len(few_digits.selection))
