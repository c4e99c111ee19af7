"""What can be told of a request without torch is told once, kept with it, and not asked again by a worker."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch import checks, choice, intake, story
from archsearch.checks import Known, Left, Plan
from archsearch.data import Dataset
from archsearch.domains.images.digits import DIGITS, DIGITS_TRAIN
from archsearch.domains.text.task import TextTask
from archsearch.errors import ArchsearchError, InvalidRequest, UnknownName
from archsearch.hardware import profile as hardware_profile
from archsearch.hardware.predict import fit
from archsearch.hardware.profile import Profile, fit_profile
from archsearch.jobs import Attempt
from archsearch.ledger.folder import FolderLedger
from archsearch.request import JobRequest, parse_request
from archsearch.settings import Settings
from archsearch.spaces import spaces
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Job
from archsearch.story import Opened, Story
from archsearch.teachers import Teacher
from archsearch.workplace import Workplace

KNOWN = Known(DIGITS, DIGITS_TRAIN)
OWN = {"kind": "distill", "budget": {}, "student": {"space": "teacher", "architecture": {"depth1": 1}}}


def request(**parts: Any) -> JobRequest:
    teacher, data = {"kind": "timm", "name": "resnet18"}, {"kind": "digits"}
    return parse_request({"teacher": teacher, "data": data, "budget": {"params_ratio": 0.5}, **parts})


@pytest.mark.parametrize(
    "parts",
    [
        {"search": {"space": "resnet_cifar"}},
        {
            "kind": "distill",
            "budget": {},
            "student": {
                "space": "resnet_cifar",
                "architecture": {f"{name}{i}": 8 for name in ("depth", "width") for i in (1, 2, 3)},
            },
        },
    ],
)
def test_students_of_a_named_family_are_cut_out_of_no_teacher(parts: dict[str, Any]) -> None:
    checks.plan(request(**parts), KNOWN)
    with pytest.raises(InvalidRequest, match="space resnet_cifar are cut out of no teacher: use space 'teacher'") as e:
        checks.plan(request(**parts, distill={"init": "teacher"}), KNOWN)
    assert e.value.field == "distill.init"
    for space in ("auto", "teacher"):
        checks.plan(request(search={"space": space}, distill={"init": "teacher"}), KNOWN)


def test_networks_with_weights_nobody_would_look_at_are_refused() -> None:
    named = {"pretrained": ["resnet18.a1_in1k"]}
    checks.plan(request(search={"space": "resnet_cifar", **named}), KNOWN)  # they are compared with
    architecture = {f"{name}{i}": 8 for name in ("depth", "width") for i in (1, 2, 3)}
    student = {"space": "resnet_cifar", "architecture": architecture}
    with pytest.raises(InvalidRequest, match="the student is of space resnet_cifar; leave it out") as e:
        checks.plan(request(kind="distill", budget={}, student=student, search=named), KNOWN)
    assert e.value.field == "search.pretrained"
    with pytest.raises(InvalidRequest, match="the data are texts; leave it out"):
        checks.plan(request(search={"space": "bert", **named}), Known(TextTask(2, 64, 1000, 0, pair=False), 100))


def test_a_classifier_that_begins_with_noise_has_to_be_taught_by_something() -> None:
    for field, said in (
        ("distill.labels", {"method": "cosine", "labels": 0}),
        ("distill.labels", {"losses": {"at": {}, "rkd": {}}, "labels": 0}),
        ("distill.method", {"method": "cosine"}),
    ):
        known = KNOWN if "labels" in said else Known(replace(DIGITS, truth="teacher"), DIGITS_TRAIN)
        with pytest.raises(InvalidRequest, match="would leave the classifier of a student that begins with noise") as e:
            checks.plan(request(search={"space": "resnet_cifar"}, distill=said), known)
        assert e.value.field == field
        checks.plan(request(search={"space": "teacher"}, distill=said), known)  # cut out of its teacher, it has one
        with pytest.raises(InvalidRequest):
            checks.plan(request(search={"space": "teacher"}, distill={**said, "init": "scratch"}), known)
    for taught in ({"method": "kd", "labels": 0}, {"losses": {"catkd": {}}, "labels": 0}, {"method": "none"}):
        checks.plan(request(search={"space": "resnet_cifar"}, distill=taught), KNOWN)


@pytest.mark.parametrize("head", ["probe", "none"])
def test_a_fitted_head_has_the_datas_classes_and_takes_no_map_of_them(head: str) -> None:
    for teacher in (
        {"kind": "timm", "name": "resnet18", "head": head, "classes": {"0": 3}},
        {"kind": "teacher", "id": "tch_00000000000000000000", "head": head, "classes": "natural"},
    ):
        with pytest.raises(InvalidRequest, match=f"where its head is {head}") as e:
            checks.plan(request(teacher=teacher), KNOWN)
        assert e.value.field == "teacher.classes"


def test_a_plan_leaves_open_only_what_takes_the_teacher_and_travels_as_json() -> None:
    plan = checks.plan(request(), KNOWN)
    settled = plan.request
    assert (settled.search.batch_size, settled.distill.batch_size, settled.verify) == (64, 32, "auto")
    assert settled.distill.epochs is not None
    assert set(plan.chosen) == {"distill"}
    assert "resnet_cifar" in plan.spaces
    assert "vit" not in plan.spaces, "a thousand digits are too few for it"
    assert checks.kept(json.loads(json.dumps(plan.to_json()))) == plan
    assert checks.plan(settled, KNOWN).request == settled, "planned again, it stays as it is"


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ({}, ("own space", "pretrained", "training", "verify")),
        ({"verify": None}, ("own space", "pretrained", "training")),
        ({"kind": "search"}, ("own space", "pretrained")),
        ({"search": {"space": "resnet_cifar"}}, ("training",)),
        ({"search": {"space": "teacher"}}, ("own space", "training")),
        ({"kind": "search", "budget": {"latency_ms": 1.0}}, ("own space", "pretrained", "device")),
        ({"kind": "search", "verify": {"candidates": 2}, "search": {"space": "resnet_cifar"}}, ("training",)),
        (OWN, ("own space", "training")),
    ],
)
def test_what_is_left_for_a_worker_is_said(parts: dict[str, Any], left: tuple[Left, ...]) -> None:
    plan = checks.plan(request(**parts), KNOWN)
    assert plan.left == left
    assert "teacher" not in plan.spaces, "it is not there to be named before the teacher is"


def test_shares_of_a_teacher_are_limits_where_it_was_counted_on_the_same_images() -> None:
    facts = {"params": 1000, "macs": 50_000, "measured_on": {"in_chans": 1, "height": 8, "width": 8}}
    registered = {"teacher": {"kind": "teacher", "id": "tch_00000000"}, "search": {"space": "resnet_cifar"}}
    both = request(**registered, budget={"params_ratio": 0.5, "macs_ratio": 0.1})
    with pytest.raises(ArchsearchError, match=r"params ≥") as caught:
        checks.plan(both, Known(DIGITS, DIGITS_TRAIN, facts))
    assert caught.value.field == "budget"
    facts |= {"params": 10**7, "macs": 10**9}
    assert checks.plan(both, Known(DIGITS, DIGITS_TRAIN, facts)).limits.given() == {"params": 5 * 10**6, "macs": 10**8}
    elsewhere = {**facts, "measured_on": {"in_chans": 3, "height": 32, "width": 32}}
    assert checks.plan(both, Known(DIGITS, DIGITS_TRAIN, elsewhere)).limits.given() == {"params": 5 * 10**6}
    assert checks.plan(both, KNOWN).limits.given() == {}


def test_a_plan_of_another_version_is_none() -> None:
    assert checks.kept(None) is None
    assert checks.kept({**checks.plan(request(), KNOWN).to_json(), "version": 0}) is None


def test_names_are_told_without_data() -> None:
    for parts, field in (
        ({"search": {"space": "resnt"}}, "search.space"),
        ({"search": {"score": {"parms": 1.0}}}, "search.score"),
        ({"distill": {"method": "kdd"}}, "distill.method"),
        ({**OWN, "student": {"space": "resnt", "architecture": {}}}, "student.space"),
    ):
        for told in (lambda asked: checks.plan(asked, KNOWN), checks.check_names):
            with pytest.raises(UnknownName) as caught:
                told(request(**parts))
            assert caught.value.field == field


class Asked:
    """Counts what is asked of a room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.names: list[str] = []
        for name in names:
            monkeypatch.setattr(checks, name, self._counting(name, getattr(checks, name)))

    def _counting(self, name: str, whole: Any) -> Any:
        def asked(*arguments: Any, **named: Any) -> Any:
            self.names.append(name)
            return whole(*arguments, **named)

        return asked


def test_whoever_does_the_work_asks_nothing_that_was_told(
    teacher: Teacher, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = request(search={"space": "resnet_cifar"}, kind="search")
    plan = checks.plan(asked_for, checks.known(few_digits, None))
    asked = Asked(monkeypatch, "plan", "check_distill", "check_search", "choose")

    def validated(name: str, kept: Plan | None) -> Any:
        ledger = FolderLedger(tmp_path / name, asked_for, lambda report: None)
        return story.validate(Story(asked_for, ledger, lambda: Opened(teacher, few_digits), kept))

    found = validated("kept", plan)
    assert asked.names == []
    assert found == validated("none", None), "who has no plan makes it, and comes to the same"
    assert sorted(asked.names) == ["check_distill", "check_search", "choose", "plan"], "each once"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    database = connect(f"sqlite:///{tmp_path / 'db'}")
    upgrade(database, tmp_path / "lock")
    yield Workplace(session_factory(database), Files(tmp_path), Settings(data_dir=tmp_path), "me")
    database.dispose()


def test_an_attempt_goes_on_from_the_plan_and_plans_what_was_queued_before_there_were_any(place: Workplace) -> None:
    asked, plan = request(), checks.plan(request(), KNOWN)
    body = asked.model_dump(mode="json")
    with place.sessions.begin() as session:
        for id, kept in (("job_1", plan.to_json()), ("job_2", None)):
            row = Job(id=id, kind=asked.kind, request=body, plan=kept, status="running", attempt=1)
            session.add(row)
    planned, unplanned = (Attempt(place, id, 1).story() for id in ("job_1", "job_2"))
    assert (planned.kept, planned.request) == (plan, plan.request)
    assert (unplanned.kept, unplanned.request) == (None, asked)
    assert "opened" not in planned.__dict__


def test_a_request_is_planned_once_however_often_it_is_looked_at(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, "plan", "check_distill", "check_search", "choose")

    class Queue:
        def enqueue(self, *arguments: Any, **named: Any) -> None: ...

    with place.sessions() as session:
        plan = intake.check(session, request(), idempotency_key="a")
    with place.sessions.begin() as session:
        job = intake.submit(session, Queue(), request(), idempotency_key="a", plan=plan)  # type: ignore[arg-type]
        assert checks.kept(job.plan) == plan
    assert sorted(asked.names) == ["check_distill", "check_search", "choose", "plan"]
    with place.sessions() as session:
        assert intake.check(session, request(), idempotency_key="a") is None, "it was made already"


@pytest.fixture
def profile() -> Profile:
    """Networks of one space on a machine where every million MACs takes a millisecond."""
    space, rng = spaces.get("resnet_cifar"), random.Random(0)
    entries = []
    for _ in range(12):
        member = {p.name: rng.choice(p.values) for p in space.parameters(DIGITS)}
        latency_ms = 0.1 + space.cost(member, DIGITS).macs / 1e6
        times = dict.fromkeys(("latency_ms", "low_ms", "high_ms"), latency_ms)
        entries.append({"space": space.name, "architecture": member, **times})
    machine = {"processor": "arm", "system": "Android", "torch": "2.15"}
    task = {"classes": 10, "in_chans": 1, "height": 8, "width": 8}
    parts = {"name": "phone", "device": "cpu-torch", "machine": machine, "task": task, "batch": 1, "threads": 1}
    return Profile.model_validate({**parts, "entries": entries})


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many members each fit of a predictor was shown."""
    seen: list[int] = []

    def counting(counts: Any, latencies_ms: Any) -> Any:
        seen.append(len(counts))
        return fit(counts, latencies_ms)

    monkeypatch.setattr(hardware_profile, "fit", counting)
    return seen


def test_a_predictor_is_fitted_once_in_the_life_of_a_profile(profile: Profile, fits: list[int], tmp_path: Path) -> None:
    budget = {"latency_ms": 50.0, "device": "prf_00000000"}
    fitted = fit_profile(lambda told: None, profile.model_dump(mode="json"))  # when it is handed in
    assert fits == [12]
    asked = request(budget=budget, search={"space": "resnet_cifar"})

    def ruler(known: Profile, folder: Path) -> Any:
        plan = checks.plan(asked, Known(DIGITS, DIGITS_TRAIN, profile=known))
        named = [spaces.get(name) for name in plan.spaces]
        folders = {"folder": folder, "cache": None}
        return choice.measured_by(asked, named, DIGITS, plan.limits, profile=known, report=lambda told: None, **folders)

    for attempt in ("1", "2"):  # each opens the row anew
        ruler(profile.knowing(fitted), tmp_path / attempt)  # type: ignore[arg-type]
    assert fits == [12], "whoever does the work takes it from the row"
    unfitted = profile.model_copy(deep=True)
    first = ruler(profile, tmp_path / "a")
    assert ruler(unfitted, tmp_path / "a") == first
    assert fits == [12, 12], "and from the job's folder where there is no row"


def test_a_profile_does_not_hold_the_teachers_own_space(profile: Profile) -> None:
    budget = {"latency_ms": 50.0, "device": "prf_00000000"}
    known = Known(DIGITS, DIGITS_TRAIN, profile=profile)
    plan = checks.plan(request(budget=budget), known)
    assert (plan.spaces, plan.left) == (("resnet_cifar",), ("training", "verify"))
    with pytest.raises(InvalidRequest, match="cannot hold the teacher's own space"):
        checks.plan(request(budget=budget, search={"space": "teacher"}), known)
