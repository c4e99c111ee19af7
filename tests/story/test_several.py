"""Several students in one job: a search for each limit, one teacher's answers for all, and all of them handed over."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import archsearch
from archsearch import export
from archsearch.cli.outcome import sentences
from archsearch.data import Dataset
from archsearch.errors import ImpossibleBudget, SearchError, TrainingError
from archsearch.ledger.folder import FolderLedger
from archsearch.request import parse_request
from archsearch.search import key
from archsearch.story import Opened, Story, several, tell
from archsearch.teachers import Teacher
from tests.story.test_tell import BODY

Report = dict[str, Any]
LIMITS = [0.5, 0.3, 0.14]
ASKED = {**BODY, "budget": {"params_ratio": LIMITS}, "search": {**BODY["search"], "candidates": 9}}


class Interrupt(Exception):
    """What stands for a crash."""


class Told:
    """A story told in a folder, its teacher's work counted by phase and student."""

    def __init__(self, asked: Report, teacher: Teacher, dataset: Dataset, out: Path, *, stop: Any = None) -> None:
        self.request, self.out, self.stop = parse_request(asked), out, stop
        self.teacher, self.dataset = teacher, dataset
        self.reports: list[Report] = []
        # Examples the teacher was asked about so far, and as they were when each student's training was over.
        self.answered, self.when_trained = 0, dict[int, int]()

    def listen(self, report: Report) -> None:
        self.reports.append(report)
        if report["phase"] == "distilling" and "epoch" in report:
            self.when_trained[report.get("student", 1)] = self.answered
        if self.stop is not None and self.stop(report):
            raise Interrupt

    def run(self) -> Report:
        ledger = FolderLedger(self.out, self.request, self.listen)
        ledger.cache = self.out.with_name(f"{self.out.name}-cache")
        hook = self.teacher.model.register_forward_pre_hook(self.count)
        try:
            return tell(Story(self.request, ledger, lambda: Opened(self.teacher, self.dataset)), ledger.once)
        finally:
            hook.remove()

    def count(self, _: Any, inputs: Any) -> None:
        self.answered += len(inputs[0])

    @property
    def trials(self) -> list[Report]:
        found = self.out / "candidates.jsonl"
        found = found if found.is_file() else self.out / ".work" / "trials.jsonl"
        return [json.loads(line) for line in found.read_text().splitlines()]


@pytest.fixture(scope="module")
def searched(teacher: Teacher, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Report]:
    told = Told({**ASKED, "kind": "search"}, teacher, few_digits, tmp_path_factory.mktemp("searched") / "out")
    return told, told.run()


def test_each_limit_has_a_search_that_goes_on_from_what_it_holds(searched: tuple[Told, Report]) -> None:
    told, result = searched
    trials = told.trials
    assert [trial["number"] for trial in trials] == list(range(len(trials)))
    assert len({key(trial["space"], trial["architecture"]) for trial in trials}) == len(trials) <= 9
    most = [row["limits"]["params"] for row in result["students"]]
    assert all(trial["cost"]["params"] <= most[0] for trial in trials)
    assert all(trial["cost"]["params"] <= most[1] for trial in trials[5:7])
    for limit, row in zip(most, result["students"], strict=True):
        within = [trial for trial in trials if trial["cost"]["params"] <= limit]
        best = max(within, key=lambda trial: (trial["score"], -trial["cost"]["params"], -trial["number"]))
        assert (row["number"], row["params"]) == (best["number"], best["cost"]["params"])
    assert [row["limit"] for row in result["students"]] == [{"params_ratio": share} for share in LIMITS]
    assert result["search"]["winner"]["number"] == result["students"][0]["number"]
    assert "student" not in result
    assert {path.name for path in told.out.iterdir()} == {"manifest.json", "candidates.jsonl", ".work"}


@pytest.mark.slow
def test_a_search_killed_under_a_later_limit_goes_on_to_the_same(
    searched: tuple[Told, Report], teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    whole, result = searched
    asked = {**ASKED, "kind": "search"}
    for at in (6, 8):
        with pytest.raises(Interrupt):
            Told(asked, teacher, few_digits, tmp_path / "out", stop=partial(scored, at)).run()
    again = Told(asked, teacher, few_digits, tmp_path / "out")
    assert timeless(again.run()) == timeless(result)
    assert timeless(again.trials) == timeless(whole.trials)


def scored(count: int, report: Report) -> bool:
    return bool(report.get("scored") == count)


def timeless(told: Any) -> Any:
    if isinstance(told, dict):
        return {
            name: timeless(value) for name, value in told.items() if name not in ("seconds", "latency_ms", "export")
        }
    return [timeless(one) for one in told] if isinstance(told, list) else told


def test_limits_that_one_network_is_best_within_are_one_student(
    teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    asked = {**ASKED, "kind": "search", "budget": {"params_ratio": [0.14, 0.13]}}
    asked["search"] = {**ASKED["search"], "candidates": 3}
    first, second = Told(asked, teacher, few_digits, tmp_path / "out").run()["students"]
    assert (first["same_as"], second["same_as"]) == (None, 1)
    assert second["architecture"] == first["architecture"]


def test_an_impossible_limit_is_refused_before_anything_is_spent(
    teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    told = Told({**ASKED, "budget": {"params_ratio": [0.5, 0.01]}}, teacher, few_digits, tmp_path / "out")
    with pytest.raises(ImpossibleBudget, match="student 2") as error:
        told.run()
    assert error.value.field == "budget.params_ratio.1"
    assert "nearest possible budget has params ≥ 3,890" in error.value.detail
    assert {report["phase"] for report in told.reports} == {"validating"}


@pytest.mark.slow
def test_limits_of_latency_are_timed_and_an_impossible_one_is_told_before_anything_is_scored(
    teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    asked = {**ASKED, "kind": "search", "budget": {"latency_ms": [2000, 1000, 1e-6]}}
    told = Told(asked, teacher, few_digits, tmp_path / "out")
    with pytest.raises(ImpossibleBudget, match="student 3: latency_ms") as error:
        told.run()
    assert error.value.field == "budget.latency_ms.2"
    assert not any("scored" in report for report in told.reports)
    asked["budget"]["latency_ms"].pop()
    first, second = Told(asked, teacher, few_digits, tmp_path / "other").run()["students"]
    assert first["measured"]["latency_ms"] <= 2000
    assert second["measured"]["latency_ms"] <= 1000


@pytest.fixture(scope="module")
def done(teacher: Teacher, few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Report]:
    asked = {**ASKED, "budget": {"params_ratio": [0.5, 0.14]}, "search": {**ASKED["search"], "candidates": 3}}
    told = Told(asked, teacher, few_digits, tmp_path_factory.mktemp("done") / "out")
    return told, told.run()


def test_all_are_distilled_from_one_teachers_answers_and_handed_over(done: tuple[Told, Report]) -> None:
    told, result = done
    first, second = result["students"]
    assert (first["folder"], second["folder"]) == (".", "students/2")
    assert result["student"]["architecture"] == first["architecture"] != second["architecture"]
    for row in (first, second):
        folder = told.out / row["folder"]
        model = archsearch.load_student(folder)
        assert sum(p.numel() for p in model.parameters()) == row["params"] <= row["limits"]["params"]
        assert {"student.onnx", "student.int8.onnx", "student.pt2", "README.md"} <= {p.name for p in folder.iterdir()}
        manifest = export.read_manifest(folder)
        assert manifest["students"] == json.loads(json.dumps(result["students"]))
        assert manifest["student"]["test_acc"] == row["test_acc"]
    # One example more is what finding out costs how many fit into memory.
    assert told.when_trained[2] - told.when_trained[1] <= 1, "its views are those of the first"
    assert export.read_manifest(told.out)["request"]["students"]["params_ratio"] == [0.5, 0.14]


def test_progress_is_that_of_all(done: tuple[Told, Report]) -> None:
    told, _ = done
    for phase in ("searching", "distilling", "exporting"):
        shares = [report["progress"] for report in told.reports if report["phase"] == phase and report.get("progress")]
        assert shares == sorted(shares)
    assert [r["student"] for r in told.reports if r["phase"] == "distilling" and r.get("progress") in (0.5, 1.0)] == [
        1,
        2,
    ]


def test_the_front_is_a_table_and_a_picture(done: tuple[Told, Report]) -> None:
    told, result = done
    front = json.loads((told.out / "front.json").read_text())
    assert [row["test_acc"] for row in front["students"]] == [row["test_acc"] for row in result["students"]]
    assert (front["against"], front["teacher"]["params"], front["stock"]) == ("params", 31_434, [])
    picture = (told.out / "front.svg").read_text()
    assert picture.count("Teacher teacher: ") == 1, "of its folder no more than the name"
    assert "/tmp" not in picture + json.dumps(front)
    assert f"Student 2: {result['students'][1]['test_acc']:.2f} % at " in picture
    assert sentences(result, "out")[-2:] == [
        "Beside it lies out/students/2.",
        "A picture of them all is out/front.svg.",
    ]
    assert {"front.json", "front.svg"} <= export.read_manifest(told.out)["files"].keys()


@pytest.mark.slow
def test_the_manifest_of_one_makes_it_alone(done: tuple[Told, Report], tmp_path: Path) -> None:
    told, _ = done
    request = parse_request(export.read_manifest(told.out / "students" / "2")["request"])
    assert (request.kind, request.how_many, request.budget.params_ratio) == ("distill", 1, 0.14)
    start = export.read_manifest(told.out / "students" / "2")["asked_from"]["path"]
    assert (told.out / "students" / "2" / start).resolve() == Path.cwd()
    alone = Told(request.model_dump(mode="json"), told.teacher, told.dataset, tmp_path / "alone")
    alone.run()
    weights = "model.safetensors"
    assert (alone.out / weights).read_bytes() == (told.out / "students" / "2" / weights).read_bytes()


@pytest.mark.slow
def test_killed_in_the_second_training_it_ends_in_the_same_bits(done: tuple[Told, Report], tmp_path: Path) -> None:
    whole, result = done
    asked = whole.request.model_dump(mode="json")

    def second(report: Report) -> bool:
        return report["phase"] == "distilling" and report.get("student") == 2 and "epoch" in report

    with pytest.raises(Interrupt):
        Told(asked, whole.teacher, whole.dataset, tmp_path / "out", stop=second).run()
    again = Told(asked, whole.teacher, whole.dataset, tmp_path / "out")
    assert timeless(again.run())["students"] == timeless(result)["students"]
    for folder in (".", "students/2"):
        weights = (Path(folder)) / "model.safetensors"
        assert (again.out / weights).read_bytes() == (whole.out / weights).read_bytes()


@pytest.mark.slow
def test_a_student_that_fails_does_not_take_the_others_along(
    teacher: Teacher, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distil, asked = several.distil, {**ASKED, "budget": {"params_ratio": [0.5, 0.3, 0.14]}}

    def failing(story: Story, chosen: Any) -> Report:
        if story.request.budget.params_ratio == 0.5:
            raise TrainingError("the loss is no number", field="distill.lr")
        return distil(story, chosen)

    monkeypatch.setattr(several, "distil", failing)
    told = Told(asked, teacher, few_digits, tmp_path / "out")
    result = told.run()
    first, second, third = result["students"]
    assert (first["failed"], first["folder"]) == ("the loss is no number", None)
    assert (second["folder"], third["folder"]) == (".", "students/3"), "the first there is lies where one alone would"
    assert result["student"]["architecture"] == second["architecture"]
    assert ("student_failed", 1) in [(one["code"], one.get("student")) for one in result["warnings"]]
    assert "Student 1 did not come about." in (told.out / "front.svg").read_text()

    def all_failing(story: Story, chosen: Any) -> Report:
        raise TrainingError("the loss is no number")

    monkeypatch.setattr(several, "distil", all_failing)
    with pytest.raises(SearchError, match="none of 3 students came about; the first: the loss is no number"):
        Told(asked, teacher, few_digits, tmp_path / "other").run()
