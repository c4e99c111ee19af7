"""A front with networks with weights in it: what a linear probe makes of them, and students that begin as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch import domains
from archsearch.data import Dataset
from archsearch.local import run
from archsearch.pretrained import Shelf, features
from archsearch.students import HOW, probe


def of(shelf: Shelf, name: str) -> dict[str, int]:
    return {"network": [member.stored.label for member in shelf.members].index(f"folder:{name}")}


def test_a_probe_knows_as_much_as_ridge_on_frozen_features(shelf: Shelf, digits: Dataset) -> None:
    asked: list[None] = []
    knows, noise = (probe(shelf, of(shelf, name), digits, lambda: asked.append(None)) for name in ("knows", "noise"))
    assert knows.keys() == {"selection_acc", "test_acc"}
    assert knows["test_acc"] > 80 > noise["test_acc"]
    assert len(asked) > 4, "it is asked now and then whether anybody still waits"
    # scikit-learn's ridge with the weight that leave-one-out prefers, on the same features.
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.preprocessing import StandardScaler

    model, _ = shelf.stock(of(shelf, "knows"))
    task = shelf.reads(of(shelf, "knows"), digits.task)
    reads = domains.of(task).prepare
    x, x_test = (features(model, reads(one.examples(slice(None)), task)).numpy() for one in (digits.train, digits.test))
    scaler = StandardScaler().fit(x)
    theirs = RidgeClassifierCV(alphas=np.logspace(-3, 4, 15)).fit(scaler.transform(x), digits.train.y_N)
    acc = 100 * float((theirs.predict(scaler.transform(x_test)) == digits.test.y_N).mean())
    assert knows["test_acc"] == pytest.approx(acc, abs=1.0)


@pytest.mark.slow
def test_networks_at_hand_stand_beside_the_students(
    teacher_folder: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHSEARCH_PRETRAINED_DIR", str(networks))
    asked: dict[str, Any] = {
        "teacher": {"kind": "local", "path": str(teacher_folder)},
        "data": {"kind": "digits"},
        "students": 2,
        "budget": {"macs_ratio": 0.8},
        "search": {"candidates": 12, "batch_size": 32},
        "verify": {"candidates": 2, "epochs": 1, "rounds": 1},
        "distill": {"epochs": 2, "batch_size": 64},
    }
    result = run(asked, tmp_path / "out", listener=lambda _: None)
    first, second = result["students"]
    assert result["chosen"]["students"] == "the budget's limit and halves of it: macs_ratio ≤ 0.8, 0.4"
    assert first["macs"] <= first["limits"]["macs"]
    assert second["macs"] <= second["limits"]["macs"]
    assert result["against"] == "macs"
    assert first["number"] == result["verify"]["winner"]["number"]
    stock = {row["network"]: row for row in result["stock"]}
    assert stock.keys() == {"folder:knows", "folder:noise", "folder:stock"}
    assert stock["folder:knows"]["test_acc"] > 80
    assert result["stock_measured_by"] == HOW
    assert "folder:vit" in result["stock_left_out"]
    front = json.loads((tmp_path / "out" / "front.json").read_text())
    assert front["stock"] == result["stock"]
    assert "folder:knows, by a linear probe: " in (tmp_path / "out" / "front.svg").read_text()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "![What they reach against what they cost](front.svg)" in card
    assert "| `folder:knows`, by a linear probe |" in card
    other = (tmp_path / "out" / "students" / "2" / "README.md").read_text()
    assert "| **2: macs_ratio ≤ 0.4** |" in other
    assert "front.svg" not in other
