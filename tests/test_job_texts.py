"""What a job of texts opens: its teacher from a zip whose check is not over, or from the hub, in bounded children."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

from huggingface_hub.utils import close_session

from archsearch import jobs
from archsearch.data.pack import pack
from archsearch.domains.unpack import unpack
from archsearch.jobs import Attempt
from archsearch.request import JobRequest
from archsearch.settings import Settings
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import DatasetRow, Job, TeacherRow
from archsearch.workplace import Workplace
from archsearch.zoos.transformers.hub import at_hand
from tests.domains.text_classification.test_domain import write_texts
from tests.hub import HubOfFiles, ask, environment
from tests.test_examine import NAMED
from tests.zoos.transformers.encoders import write_folder

pytestmark = pytest.mark.slow  # every child imports torch
DATA, TEACHER, UPLOAD = "ds_" + "1" * 20, "tch_" + "1" * 20, "up_" + "1" * 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    """A worker's place with a data set of texts, and an encoder's folder beside it."""
    database = connect(f"sqlite:///{tmp_path / 'db'}")
    upgrade(database, tmp_path / "lock")
    place = Workplace(session_factory(database), Files(tmp_path / "data"), Settings(data_dir=tmp_path), "me")
    options = {"max_length": 12, "duplicates": "warn"}
    table = write_texts(tmp_path / "texts.csv")
    found = unpack(lambda share: None, str(table), "text", options, {}, str(place.files.dataset(DATA)))
    with place.sessions.begin() as session:
        session.add(DatasetRow(id=DATA, format="text", status="ready", progress=1.0, **found))
    write_folder(tmp_path / "bert", "bert", **NAMED)
    yield place
    database.dispose()


def attempt(place: Workplace, teacher: dict[str, Any]) -> tuple[Attempt, JobRequest]:
    body = {"teacher": teacher, "data": {"kind": "dataset", "id": DATA}, "budget": {"params_ratio": 0.5}}
    request = JobRequest.model_validate(body)
    with place.sessions.begin() as session:
        row = Job(id="job_1", kind="search", request=request.model_dump(mode="json"), status="running", attempt=1)
        session.add(row)
    return Attempt(place, "job_1", 1), request


def test_a_zip_that_nobody_has_unpacked_yet_is_unpacked_for_the_job(place: Workplace, tmp_path: Path) -> None:
    content = place.files.upload(UPLOAD)
    content.parent.mkdir(parents=True)
    pack(tmp_path / "bert", content)
    with place.sessions.begin() as session:
        session.add(TeacherRow(id=TEACHER, source={"kind": "folder", "upload": UPLOAD}, status="checking"))
    mine, request = attempt(place, {"kind": "teacher", "id": TEACHER})
    for _ in range(2):  # again, where it lies by now
        opened = mine._open(request)
        assert (opened.teacher.num_classes, opened.dataset.task.vocab_size) == (3, 40)
        assert opened.teacher.folder == place.files.unpacked(UPLOAD)
    assert not list(content.parent.glob(".folder*"))


def test_a_repositorys_tokenizer_is_fetched_by_a_child_and_not_in_the_middle_of_the_work(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubOfFiles({f"me/bert/{path.name}": path.read_bytes() for path in (tmp_path / "bert").iterdir()})
    for name, value in environment(hub, str(tmp_path / "cache")).items():
        monkeypatch.setenv(name, value)
    ask(hub, tmp_path / "cache", monkeypatch)
    fetched: list[bool] = []
    run = jobs.bounded.run

    def watched(*given: Any, **named: Any) -> Any:
        fetched.append(at_hand("hf-hub:me/bert"))
        found = run(*given, **named)
        fetched.append(at_hand("hf-hub:me/bert"))
        return found

    monkeypatch.setattr(jobs.bounded, "run", watched)
    try:
        mine, request = attempt(place, {"kind": "timm", "name": "hf-hub:me/bert"})
        assert mine._open(request).teacher.name == "hf-hub:me/bert"
        assert mine._open(request).dataset.task.vocab_size == 40
    finally:
        close_session()
        hub.close()
    assert fetched == [False, True]
