from __future__ import annotations

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.domains.images.views import views

# B batch, C channels, H W space


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(x_BCHW: torch.Tensor, how, generator: torch.Generator) -> torch.Tensor:
    """A batch in views drawn for it."""
    batch, channels, height, width = x_BCHW.shape
    shown = views(how, ImageTask(2, channels, height, width, (0.5,) * channels, (0.5,) * channels))
    return shown.apply(x_BCHW.permute(0, 2, 3, 1), shown.draw(batch, generator))


def numbered(batch: int, channels: int = 2, height: int = 8, width: int = 16) -> torch.Tensor:
    """The same image again and again, every pixel of it another number from 1 on."""
    pixels = torch.arange(1, channels * height * width + 1).reshape(1, channels, height, width)
    return pixels.expand(batch, -1, -1, -1).clone()


def shifted(x_CHW: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Moved, with zeros where nothing was."""
    _, height, width = x_CHW.shape
    out_CHW = torch.zeros_like(x_CHW)
    rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    from_rows, from_columns = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
    out_CHW[:, rows, columns] = x_CHW[:, from_rows, from_columns]
    return out_CHW


@pytest.mark.parametrize("how", ["none", "crop", "crop_flip"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 5, 7), (1, 1, 1)])
def test_shape_and_type_stay(how, dtype: torch.dtype, size: tuple[int, int, int]) -> None:
    x_BCHW = torch.ones(4, *size).to(dtype)
    out_BCHW = augment(x_BCHW, how, generator())
    assert out_BCHW.shape == x_BCHW.shape
    assert out_BCHW.dtype == dtype


def test_none_changes_nothing() -> None:
    x_BCHW = numbered(3)
    assert augment(x_BCHW, "none", generator()).equal(x_BCHW)


def test_a_crop_shifts_by_up_to_an_eighth_with_black_beyond() -> None:
    x_BCHW = numbered(300)
    shifts = {(down, right): shifted(x_BCHW[0], down, right) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)}
    seen = set()
    for out_CHW in augment(x_BCHW, "crop", generator()):
        (found,) = [by for by, expected in shifts.items() if out_CHW.equal(expected)]
        seen.add(found)
    assert seen == shifts.keys(), "all shifts occur, and no other"


def test_a_flip_mirrors_half_of_the_images_left_to_right() -> None:
    x_BCHW = numbered(400)
    mirrored = 0
    straight = [shifted(x_BCHW[0], down, right) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)]
    for out_CHW in augment(x_BCHW, "crop_flip", generator()):
        flipped = any(out_CHW.equal(image.flip(2)) for image in straight)
        assert flipped or any(out_CHW.equal(image) for image in straight)
        mirrored += flipped
    assert 150 < mirrored < 250


def test_a_crop_never_mirrors() -> None:
    left_to_right = augment(numbered(50), "crop", generator())[:, 0, 4]
    assert (left_to_right[:, 5] < left_to_right[:, 9]).all()


@pytest.mark.parametrize("how", ["crop", "crop_flip"])
def test_the_generator_decides(how) -> None:
    x_BCHW = numbered(20)
    first = augment(x_BCHW, how, generator(1))
    assert augment(x_BCHW, how, generator(1)).equal(first)
    assert not augment(x_BCHW, how, generator(2)).equal(first)
    state = torch.get_rng_state()
    augment(x_BCHW, how, generator(1))
    assert torch.get_rng_state().equal(state), "nobody else's random numbers are drawn"


@pytest.mark.parametrize(("how", "count"), [("none", 1), ("crop", 81), ("crop_flip", 162)])
def test_every_view_of_a_cifar_image_has_a_number_and_no_two_are_the_same(
    colour_task: ImageTask, how, count: int
) -> None:
    shown = views(how, colour_task)
    assert shown.count == count
    pixels = torch.arange(1, 32 * 32 + 1).reshape(1, 32, 32, 1).expand(count, -1, -1, -1)
    every = shown.apply(pixels, torch.arange(count))
    assert len({tuple(image.flatten().tolist()) for image in every}) == count
    drawn = shown.draw(20 * count, generator())
    assert drawn.unique().numel() == count


def test_a_random_part_at_a_random_scale_has_no_number(colour_task: ImageTask) -> None:
    assert views("resized_crop", colour_task) is None


def test_views_come_in_channels_last_memory(colour_task: ImageTask) -> None:
    shown = views("crop_flip", colour_task)
    x_BCHW = shown.apply(torch.zeros(4, 32, 32, 3, dtype=torch.uint8), torch.tensor([0, 80, 81, 161]))
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
