from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file

from archsearch.request import UploadedTeacher
from archsearch.teachers import (
    ImageTeacher,
    build,
    fingerprint,
    load_teacher,
)

# B batch, C channels, H W space, K classes


def test_the_fingerprint_follows_every_weight(source: UploadedTeacher, weights: dict, tmp_path: Path) -> None:
    before = fingerprint(build(source.architecture, source.model_args | {"num_classes": 10, "in_chans": 1}))
    weights["layer1.0.bn1.running_mean"][0] += 1e-6
    save_file(weights, tmp_path / "w.safetensors")
    nudged = load_teacher(source, tmp_path / "w.safetensors").sha256
    assert len({before, nudged, load_teacher(source, tmp_path / "w.safetensors").sha256}) == 2


def test_images_of_another_size_are_resized_and_normalised(teacher: ImageTeacher) -> None:
    x_BCHW = torch.full((2, 1, 16, 16), 0.75)
    expected = (0.75 - teacher.mean[0]) / teacher.std[0]
    prepared_BCHW = teacher.prepare(x_BCHW)
    torch.testing.assert_close(prepared_BCHW, torch.full((2, 1, 8, 8), expected))
    as_it_is = dataclasses.replace(teacher, input_hw=None)
    assert as_it_is.prepare(x_BCHW).shape == (2, 1, 16, 16)


def test_the_same_weights_with_other_heads_are_another_teacher() -> None:
    """A transformer's weights do not tell into how many heads they are cut."""

    def teacher(heads: int) -> ImageTeacher:
        args = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": heads, "num_classes": 3}
        torch.manual_seed(0)
        model = build("vit_tiny_patch16_224", args)
        return ImageTeacher("t", model, 3, 3, (0.5,) * 3, (0.5,) * 3, (16, 16), fingerprint(model))

    assert teacher(2).sha256 == teacher(3).sha256
    assert teacher(2).identity != teacher(3).identity
    assert teacher(2).identity == teacher(2).identity
