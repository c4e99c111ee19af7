from __future__ import annotations

import subprocess
import sys

import pytest
import timm

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest, UnknownName
from archsearch.spaces import check_name, choose, spaces, suited


def task(side: int) -> ImageTask:
    return ImageTask(10, 3, side, side, (0.5,) * 3, (0.25,) * 3)


def names(*args) -> list[str]:
    return [space.name for space in choose(*args)]


def test_a_name_means_one_space() -> None:
    assert choose("vit", task(32), None) == (spaces.get("vit"),)
    assert names("nasbench201", task(32), None) == ["nasbench201"]


def test_auto_is_every_family_that_takes_the_task() -> None:
    families = ["convnext", "mobilenet", "regnet", "resnet", "resnet_cifar", "vit"]
    assert names("auto", task(32), None) == families
    assert names("auto", task(8), None) == [name for name in families if name != "convnext"]
    assert names("auto", task(224), None) == [name for name in families if name != "resnet_cifar"]
    assert [space.name for space in suited(task(32))] == families


def test_auto_leaves_out_what_takes_more_images_to_learn_whoever_teaches() -> None:
    few = ["mobilenet", "regnet", "resnet", "resnet_cifar"]
    assert names("auto", task(32), None, 50_000) == few
    assert names("auto", task(32), None, 1_281_167) == names("auto", task(32), None)
    transformer = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10)
    assert names("auto", task(32), transformer, 50_000) == few
    assert names("auto", task(32), transformer, 1_281_167)[0] == "teacher"
    # What is asked for by name is searched on any number of images.
    assert names("teacher", task(32), transformer, 100) == ["teacher"]
    assert names("vit", task(32), None, 100) == ["vit"]


def test_auto_begins_with_the_teachers_own_kind_where_there_is_one() -> None:
    own = timm.create_model("cifar_resnet", num_classes=10)
    assert names("auto", task(32), own) == ["teacher", *names("auto", task(32), None)]
    assert names("teacher", task(32), own) == ["teacher"]
    strange = timm.create_model("ghostnet_050", num_classes=10)
    assert names("auto", task(224), strange) == names("auto", task(224), None)
    with pytest.raises(InvalidRequest, match="is of no family known here"):
        choose("teacher", task(224), strange)


def test_teacher_takes_a_teacher() -> None:
    with pytest.raises(InvalidRequest) as caught:
        choose("teacher", task(32), None)
    assert caught.value.field == "search.space"


def test_a_family_that_refuses_the_task_is_refused() -> None:
    for refuse in (lambda: choose("convnext", task(8), None), lambda: check_name("convnext", task(8))):
        with pytest.raises(InvalidRequest, match=r"does not take images of 8 pixels.*these spaces do: mobilenet"):
            refuse()
    check_name("convnext")
    check_name("auto", task(8))
    check_name("teacher", task(8))


@pytest.mark.parametrize(
    ("wrong", "meant"), [("resnet_ciphar", "resnet_cifar"), ("techer", "teacher"), ("auot", "auto")]
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, meant: str) -> None:
    for refuse in (lambda: choose(wrong, task(32), None), lambda: check_name(wrong)):
        with pytest.raises(UnknownName, match=f"did you mean '{meant}'") as caught:
            refuse()
        assert caught.value.field == "search.space"


def test_names_are_checked_and_costs_counted_without_torch() -> None:
    code = """
import sys
from archsearch.domains.images.task import ImageTask
from archsearch.spaces import check_name, choose
task = ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
check_name("auto", task)
for space in choose("auto", task, None):
    space.check(space.largest(task), task)
    space.count(space.largest(task), task)
    space.model(space.largest(task), task)
assert not {"torch", "timm"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
