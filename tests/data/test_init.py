from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from archsearch.domains import load
from archsearch.errors import InvalidRequest
from archsearch.request import DatasetData, DigitsData, ImageFolderData, NpzData


def test_each_spec_loads_its_data(tmp_path: Path, make_zip, picture) -> None:
    np.savez(
        tmp_path / "a.npz", x_train=np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4), y_train=np.arange(12) % 2
    )
    path = make_zip({f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(3)})
    assert load(DigitsData()).task.classes == 10
    assert load(NpzData(path=tmp_path / "a.npz")).task.height == 4
    assert load(ImageFolderData(path=path, image_size=8)).task.height == 8


def test_a_services_data_set_is_not_loaded_here(refused) -> None:
    with refused(InvalidRequest, "data", "service"):
        load(DatasetData(id="ds_0123456789"))


def test_importing_loads_nothing_heavy() -> None:
    code = "import archsearch.data, sys; print([m for m in ('torch', 'sklearn', 'PIL') if m in sys.modules])"
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "[]"
