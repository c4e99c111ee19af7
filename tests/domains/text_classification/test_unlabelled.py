"""Texts of which some or none have labels: what a batch holds, and what is learned of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import archsearch
from archsearch import domains
from archsearch.data import Dataset
from archsearch.distill.group import Group
from archsearch.distill.pool import Pool, pool
from archsearch.distill.train import train
from archsearch.domains.text.batches import epoch_batches, padding_share
from archsearch.domains.text.spec import TextData
from archsearch.domains.text_classification.batches import pool_batches
from archsearch.errors import ArchsearchError
from archsearch.request import DistillSpec, LocalTeacher, SearchSpec
from archsearch.search.bench import prepare
from archsearch.teachers import fingerprint
from tests.domains.text_classification.test_distill import student
from tests.domains.text_classification.test_domain import NAMES, write_texts
from tests.zoos.transformers.encoders import write_folder

DOMAIN = domains.get("text_classification")


def write_folders(folder: Path, labelled: int = 60, others: int = 120) -> tuple[Path, Path]:
    """A folder of texts some of which have labels, and one of the same texts without any."""
    lines = write_texts(folder / "all.csv", labelled + others).read_text().splitlines()
    some, none = folder / "some", folder / "none"
    for each in (some, none):
        each.mkdir()
    (some / "train.csv").write_text("\n".join(lines[: 1 + labelled]) + "\n")
    words = [line.rpartition(",")[0] for line in lines[1:]]
    (some / "unlabelled.txt").write_text("\n".join(words[labelled:]) + "\n")
    (none / "unlabelled.txt").write_text("\n".join(words) + "\n")
    return some, none


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """Both folders, and a teacher whose answers are not all the same."""
    root = tmp_path_factory.mktemp("texts")
    names: Any = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    write_folder(root / "teacher", "bert", **names)
    return (*write_folders(root), root / "teacher")


def opened(taught: tuple[Path, Path, Any], which: int) -> tuple[Any, Dataset]:
    table = domains.load(TextData(path=taught[which], max_length=12, duplicates="warn"))
    teacher = DOMAIN.load_teacher(LocalTeacher(path=taught[2]), None, table)
    return teacher, DOMAIN.encode(table, teacher, None)


@pytest.mark.parametrize(("labelled", "others", "own"), [(40, 200, 8), (10, 300, 8), (5, 90, 8), (200, 20, 30)])
def test_a_batch_has_as_many_with_labels_and_texts_of_about_one_length(labelled: int, others: int, own: int) -> None:
    lengths_N = np.random.default_rng(0).integers(3, 60, labelled + others)
    rows = Pool(labelled, others, own, 32, (labelled + others) // 32)
    found = pool_batches(lengths_N, rows, 0, 1)
    assert len(found) == rows.steps
    for batch_B in found:
        assert (batch_B < labelled).sum() == own
        assert (batch_B[:16] < labelled).sum() in (own // 2, own - own // 2), "processes have as many"
        for kind in (batch_B[batch_B < labelled], batch_B[batch_B >= labelled]):
            assert len(set(kind.tolist())) == min(len(kind), labelled if kind[0] < labelled else others)
    again, other = pool_batches(lengths_N, rows, 0, 1), pool_batches(lengths_N, rows, 0, 2)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(found, other, strict=True))
    if labelled < 4 * own:  # nearly all of the few are in every batch, long ones, too
        return
    shuffled = np.random.default_rng(1).permutation(labelled + others)[: 32 * rows.steps].reshape(-1, 32)
    assert padding_share(lengths_N, found) < 0.8 * padding_share(lengths_N, shuffled)


def test_with_all_labels_batches_are_what_they_were_and_without_a_teacher_labels_go_round() -> None:
    lengths_N = np.random.default_rng(0).integers(3, 60, 100)
    whole = pool_batches(lengths_N, Pool(100, 0, 32, 32, 3), 5, 2)
    assert all(np.array_equal(a, b) for a, b in zip(whole, epoch_batches(lengths_N, 32, 5, 2), strict=True))
    round_and_round = pool_batches(lengths_N[:40], Pool(40, 0, 32, 32, 7), 5, 2)
    assert len(round_and_round) == 7
    assert len({tuple(sorted(batch)) for batch in round_and_round}) == 7


def test_a_loader_gives_them_without_labels_from_any_step_on(taught: tuple[Path, Path, Any]) -> None:
    _, dataset = opened(taught, 0)
    spec = DistillSpec(epochs=1, batch_size=16, method="kd")
    rows = pool(spec=spec, dataset=dataset)
    assert (rows.labelled, rows.unlabelled) == (len(dataset.train), 120)
    whole = list(DOMAIN.loader(dataset, spec, "cpu", Group()).epoch(1, 0))
    rest = list(DOMAIN.loader(dataset, spec, "cpu", Group()).epoch(1, 3))
    assert [batch.row_B.tolist() for batch in whole[3:]] == [batch.row_B.tolist() for batch in rest]
    for batch in whole:
        assert (batch.y.numpy() == -1).tolist() == (batch.row_B >= rows.labelled).tolist()
        assert (batch.y >= 0).sum() == rows.own


@pytest.mark.slow
def test_they_teach_and_what_is_remembered_is_of_all(taught: tuple[Path, Path, Any]) -> None:
    teacher, dataset = opened(taught, 0)
    spec = DistillSpec(epochs=2, batch_size=16, device="cpu", precision="fp32")
    found = []
    for cached in ("auto", "off"):  # remembered once, or looked at in every batch
        model = student(dataset)
        recipe = spec.model_copy(update={"view_cache": cached})
        reports = list(train(model, dataset, recipe, teacher=teacher))
        assert set(reports[-1].terms) == {"labels", "kd", "minilm"}
        found.append(reports[-1].terms["kd"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_search_fills_its_batch_with_them(taught: tuple[Path, Path, Any]) -> None:
    teacher, dataset = opened(taught, 0)
    bench = prepare(SearchSpec(batch_size=96), teacher, dataset)
    assert len(bench.rungs[-1].y_B) == len(bench.rungs[-1].x) == 96
    assert len(dataset.train) < 96
    assert bench.rungs[-1].y_B.min() >= 0


def test_without_any_label_the_teachers_answers_are_all_there_is(taught: tuple[Path, Path, Any]) -> None:
    teacher, dataset = opened(taught, 1)
    task: Any = dataset.task
    assert (task.truth, task.classes, task.class_names) == ("teacher", 3, NAMES)
    assert [metric.key for metric in domains.metrics(task)] == ["agreement"]
    spec = DistillSpec(epochs=1, batch_size=16, device="cpu", precision="fp32")
    model, other = student(dataset), student(dataset)
    *_, last = train(model, dataset, spec, teacher=teacher)
    assert (last.metric, set(last.terms)) == ("agreement", {"kd", "minilm"})
    *_, _ = train(other, dataset, spec.model_copy(update={"labels": 0.0}), teacher=teacher)
    assert fingerprint(model) == fingerprint(other)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"teacher": {"classes": "as_is"}}, "teacher.classes"),
        ({"teacher": {"head": "probe"}}, "teacher.head"),
        ({"distill": {"labels": 1}}, "distill.labels"),
        ({"distill": {"baseline": True}}, "distill.baseline"),
        ({"distill": {"method": "none"}}, "distill.method"),
    ],
)
def test_what_asks_for_labels_is_refused(
    taught: tuple[Path, Path, Any], tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    body = request(taught, 1)
    for part, fields in changes.items():
        body[part] = {**body[part], **fields}
    with pytest.raises(ArchsearchError) as caught:
        archsearch.run(body, tmp_path / "out", listener=lambda _: None)
    assert caught.value.field == field


def test_a_teacher_of_many_labels_is_refused(taught: tuple[Path, Path, Any], tmp_path: Path) -> None:
    write_folder(tmp_path / "many", "bert", problem_type="multi_label_classification")
    table = domains.load(TextData(path=taught[1], max_length=12, duplicates="warn"))
    with pytest.raises(ArchsearchError, match="any number of labels"):
        DOMAIN.load_teacher(LocalTeacher(path=tmp_path / "many"), None, table)


def request(taught: tuple[Path, Path, Any], which: int) -> dict[str, Any]:
    return {
        "teacher": {"kind": "local", "path": str(taught[2])},
        "data": {"kind": "text", "path": str(taught[which]), "max_length": 12, "duplicates": "warn"},
        "budget": {"params_ratio": 0.9},
        "search": {"space": "teacher", "candidates": 2, "batch_size": 16},
        "distill": {"epochs": 1, "batch_size": 16},
    }
