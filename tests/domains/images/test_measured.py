from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsearch.domains.images.measured import load_measured
from archsearch.domains.images.task import ImageTask
from archsearch.errors import DataError, InvalidRequest
from archsearch.request import ImageFolderData, NpzData

PETS = ImageTask(3, 3, 6, 6, (0.5,) * 3, (0.25,) * 3, ("eel", "cat", "dog"))


def test_a_table_of_nothing_but_test_images_loads(make_zip, picture) -> None:
    members = {f"{i}.png": picture(i) for i in range(3)}
    rows = "file,split,cat,dog,eel\n0.png,test,1,1,0\n1.png,test,0,0,1\n2.png,test,0,0,0\n"
    found = load_measured(ImageFolderData(path=make_zip({**members, "labels.csv": rows.encode()})), PETS)
    assert (found.part, len(found.dataset.test)) == ("test", 3)
    assert found.dataset.task.kind == "multilabel"
    assert found.dataset.test.y_N.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]], "columns in the network's order"


def test_validation_and_test_folders_need_no_train(make_zip, picture) -> None:
    members = {"val/cat/0.png": picture(0), "test/dog/1.png": picture(1), "test/eel/2.png": picture(2)}
    found = load_measured(ImageFolderData(path=make_zip(members)), PETS)
    assert (found.part, found.dataset.test.y_N.tolist(), found.dataset.selection.y_N.tolist()) == ("test", [2, 0], [1])


def test_a_test_folder_alone_is_measured_whole(make_zip, picture) -> None:
    found = load_measured(ImageFolderData(path=make_zip({f"test/dog/{i}.png": picture(i) for i in range(4)})), PETS)
    assert found.dataset.test.y_N.tolist() == [2] * 4


def test_numbers_without_names_have_to_be_the_networks(tmp_path: Path) -> None:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (6, 6, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_test=x_NHWC, y_test=np.array([0, 1, 1, 0, 1, 0]))
    assert load_measured(NpzData(path=tmp_path / "a.npz"), PETS).dataset.test.y_N.max() == 1
    np.savez(tmp_path / "b.npz", x_test=x_NHWC, y_test=np.arange(6))
    with pytest.raises(InvalidRequest, match="tells 3 classes apart, the data has 6"):
        load_measured(NpzData(path=tmp_path / "b.npz"), PETS)


def test_a_class_the_network_does_not_know_is_refused(make_zip, picture) -> None:
    members = {f"{name}/{i}.png": picture(i) for name in ("cat", "owl") for i in range(2)}
    with pytest.raises(InvalidRequest, match="the student knows no class 'owl', and has 'eel', 'dog' instead"):
        load_measured(ImageFolderData(path=make_zip(members)), PETS)


def test_nothing_to_measure_is_refused(make_zip, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        load_measured(ImageFolderData(path=make_zip({"readme.md": b"nothing"})), PETS)
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(DataError, match="no such array"):
        load_measured(NpzData(path=tmp_path / "a.npz"), PETS)
