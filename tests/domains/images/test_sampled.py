"""Views that are drawn once: what one looks like follows from its image and its number, whoever asks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from archsearch import domains
from archsearch.data import Dataset
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch
from archsearch.domains.image_classification import ahead, loaders
from archsearch.domains.images import load_npz, streamed
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.image_folder import load_image_folder
from archsearch.domains.images.sampled import Shown
from archsearch.domains.images.task import ImageSplit
from archsearch.domains.images.views import COUNT, SampledViews, Views, views_of
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec

STRONG = SampledViews("strong", 5, 0.1, 1.0, "")
CROPS = SampledViews("resized_crop", 5, 0.0, 0.0, "")
LABELLED = 30


@pytest.fixture(scope="module", params=[1, 3])
def data(request: pytest.FixtureRequest, digits: Dataset) -> Dataset:
    """Digits in grey, or in colour, as large again."""

    def larger(split: ImageSplit) -> ImageSplit:
        x_NHWC = split.x_NHWC[:40].repeat(2, 1).repeat(2, 2).repeat(request.param, 3)
        if request.param == 3:  # colours that differ
            x_NHWC = np.ascontiguousarray(x_NHWC * np.array([1, 0.5, 0.25])).astype(np.uint8)
        return ImageSplit(x_NHWC, split.y_N[:40])

    mean = (0.3, 0.2, 0.1)[: request.param]
    task = replace(digits.task, height=16, width=16, in_chans=request.param, mean=mean, std=mean)
    splits = {name: larger(getattr(digits, name)) for name in ("train", "selection", "test")}
    return replace(digits, task=task, **splits)


def shown(data: Dataset, how: SampledViews) -> Shown:
    return Shown(data.train, data.task, how, LABELLED)


def test_a_view_follows_from_its_image_and_number_alone(data: Dataset) -> None:
    one, other = shown(data, STRONG), shown(data, STRONG)
    first = one.view(3, 2)
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    keys = [3 * 5 + 2, 8, 3 * 5 + 1]
    assert np.array_equal(other.__getitems__(keys), np.stack([first, one.view(1, 3), one.view(3, 1)]))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2]), "nobody else's numbers are drawn"
    assert first.shape == (data.task.in_chans, 16, 16)
    assert first.dtype == np.uint8


def test_views_differ_and_are_more_than_crops(data: Dataset) -> None:
    each = {how: {bytes(shown(data, how).view(4, v)) for v in range(5)} for how in (STRONG, CROPS)}
    assert len(each[STRONG]) == len(each[CROPS]) == 5
    assert not each[STRONG] & each[CROPS]


def test_half_the_views_are_mixed_with_an_image_of_their_kind(data: Dataset) -> None:
    images = shown(data, replace(STRONG, count=20))
    partners = {(row, v): images.partner(row, v) for row in (0, 7, 35) for v in range(20)}
    mixed = [at for at, partner in partners.items() if partner.share < 1]
    assert 15 <= len(mixed) <= 45
    for (row, _), partner in partners.items():
        assert (partner.row < LABELLED) == (row < LABELLED), "a label is mixed with a label"
        assert 0 <= partner.share <= 1
    alone = shown(data, replace(STRONG, count=20, mixup=0.0, cutmix=0.0))
    for at, partner in partners.items():
        same = np.array_equal(images.view(*at), alone.view(*at))
        assert same or partner.share < 1, "a view of one image is shown as it is"


def test_a_cut_shows_its_share_of_the_other_image(data: Dataset) -> None:
    cut, alone = (shown(data, replace(CROPS, cutmix=alpha)) for alpha in (1.0, 0.0))
    for row, v in ((row, v) for row in range(4) for v in range(5)):
        partner = cut.partner(row, v)
        own, other, mixed = alone.view(row, v), alone.view(partner.row, partner.view), cut.view(row, v)
        assert ((mixed == own) | (mixed == other)).all()
        distinct = (own != other).any(0)
        from_other = (mixed != own).any(0)
        assert from_other.mean() <= 1 - partner.share + 1e-6
        assert (from_other | ~distinct).mean() >= 1 - partner.share - 1e-6


def test_a_mixture_is_the_mean_of_both_by_their_shares(data: Dataset) -> None:
    mixing, alone = (shown(data, replace(CROPS, mixup=alpha)) for alpha in (1.0, 0.0))
    found = 0
    for v in range(5):
        partner = mixing.partner(2, v)
        own, other = (alone.view(*at).astype(float) for at in ((2, v), (partner.row, partner.view)))
        wanted = partner.share * own + (1 - partner.share) * other
        assert np.abs(mixing.view(2, v) - wanted).max() <= 0.51
        found += partner.share < 1
    assert found


def test_what_is_erased_is_the_mean(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from archsearch.domains.images import sampled

    monkeypatch.setattr(sampled, "ERASED", 1.0)
    erased = shown(data, replace(STRONG, mixup=0.0, cutmix=0.0)).view(5, 0)
    monkeypatch.setattr(sampled, "ERASED", 0.0)
    whole = shown(data, replace(STRONG, mixup=0.0, cutmix=0.0)).view(5, 0)
    mean_C = np.round(255 * np.array(data.task.mean))
    changed = (erased != whole).any(0)
    assert changed.any()
    assert (mean_C == erased[:, changed].T).all()


def spec(**fields: Any) -> DistillSpec:
    return DistillSpec(**{"method": "kd", "epochs": 2, "batch_size": 8, "augment": "strong", **fields})


def test_which_trainings_have_sampled_views(digits: Dataset) -> None:
    task = digits.task
    strong = views_of(spec(), task)
    assert isinstance(strong, SampledViews)
    assert (strong.count, strong.mixup, strong.cutmix, strong.every) == (COUNT, 0.1, 1.0, False)
    crops = views_of(spec(augment="resized_crop", views=7, cutmix=0.5), task)
    assert isinstance(crops, SampledViews)
    assert (crops.count, crops.mixup, crops.cutmix) == (7, 0.0, 0.5)
    assert views_of(spec(augment="resized_crop"), task) is None
    assert isinstance(views_of(spec(augment="crop"), task), Views)
    assert repr(strong) != repr(views_of(spec(views=49), task)) != repr(views_of(spec(mixup=0.0), task))
    assert "timm" in repr(strong), "other versions make other pixels"


@pytest.mark.parametrize("field", [{"views": 3}, {"mixup": 0.2}, {"cutmix": 1.0}])
def test_other_augmentations_have_none(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{min(field)}: .*strong"):
        DistillSpec(**{"augment": "crop", **field})


def test_a_virtual_teacher_knows_no_mixed_labels(digits: Dataset) -> None:
    domain = domains.of(digits.task)
    with pytest.raises(InvalidRequest, match="set mixup and cutmix to 0"):
        domain.check(spec(method="tf_kd"), digits.task)
    domain.check(spec(method="tf_kd", mixup=0, cutmix=0), digits.task)
    with pytest.raises(InvalidRequest, match="strong takes images of 1 or 3 channels"):
        domain.check(spec(), replace(digits.task, in_chans=2))


def batches(data: Dataset, first: int = 0, group: Group | None = None, **fields: Any) -> list[Batch]:
    return list(domains.of(data.task).loader(data, spec(**fields), "cpu", group or Group()).epoch(1, first))


def test_batches_tell_views_and_what_is_mixed_in(data: Dataset) -> None:
    whole = batches(data)
    images = Shown(data.train, data.task, views_of(spec(), data.task), len(data.train))  # type: ignore[arg-type]
    for batch in whole:
        assert batch.view_B is not None
        assert batch.mixed is not None
        for at, (row, v) in enumerate(zip(batch.row_B.tolist(), batch.view_B.tolist(), strict=True)):
            partner = images.partner(row, v)
            assert torch.equal((255 * batch.x[at]).round().to(torch.uint8), torch.from_numpy(images.view(row, v)))
            assert batch.mixed.y[at] == data.train.y_N[partner.row]
            assert batch.mixed.share_B[at] == pytest.approx(partner.share)
    assert [batch.row_B.tolist() for batch in whole[2:]] == [batch.row_B.tolist() for batch in batches(data, 2)]
    part = whole[0].part(2, 5)
    assert part.mixed is not None
    assert whole[0].mixed is not None
    assert torch.equal(part.mixed.y, whole[0].mixed.y[2:5])
    halves = [batches(data, group=Group(rank, 2))[0] for rank in range(2)]
    assert torch.equal(torch.cat([half.x for half in halves]), whole[0].x)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_processes_shows_the_same(
    picture: Any, make_zip: Any, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    path = make_zip(
        {f"{name}/{i}.png": picture(20 * k + i, size=(16, 16)) for k, name in enumerate("ab") for i in range(12)}
    )
    wanted = batches(load_image_folder(path))
    monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    found = load_image_folder(path)
    assert isinstance(found.train, FileSplit)
    monkeypatch.setattr(loaders, "workers_for", lambda *_: workers)
    monkeypatch.setattr(ahead, "_has_room", lambda _: True)
    for own, other in zip(batches(found), wanted, strict=True):
        assert torch.equal(own.x, other.x)
        assert own.mixed is not None
        assert other.mixed is not None
        assert torch.equal(own.mixed.share_B, other.mixed.share_B)


@pytest.mark.shared
def test_photos_have_strong_views(shared: Path) -> None:
    dataset = load_npz(shared / "cifar100_mini.npz", duplicates="warn")
    views_of = SampledViews("strong", 4, 0.1, 1.0, "")
    images = Shown(dataset.train, dataset.task, views_of, len(dataset.train))
    found = np.stack([images.view(row, v) for row in range(10) for v in range(4)])
    assert len({bytes(view) for view in found}) == 40
    assert 20 < found.mean() < 235
