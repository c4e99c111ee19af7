"""A job whose teacher is on a hub that is away: it asks again, and is cancelled as quickly as any."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import sqlalchemy as sa
from huggingface_hub.utils import close_session

from archsearch import jobs, story
from archsearch.errors import ArchsearchError, Cancelled, Unavailable
from archsearch.jobs import Attempt
from archsearch.request import JobRequest, StockNetwork
from archsearch.settings import Settings
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Job
from archsearch.workplace import Workplace
from tests.hub import HubOfFiles, environment

pytestmark = pytest.mark.slow  # every child imports torch

REQUEST = JobRequest.model_validate(
    {
        "teacher": {"kind": "timm", "name": "hf-hub:me/good"},
        "data": {"kind": "digits"},
        "budget": {"params_ratio": 0.5},
        "search": {"space": "resnet_cifar", "batch_size": 32},
    }
)


@pytest.fixture
def hub(teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubOfFiles]:
    files = {f"me/good/{name}": (teacher_folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    hub = HubOfFiles(files)
    for name, value in environment(hub, str(tmp_path / "cache")).items():  # for the child
        monkeypatch.setenv(name, value)
    for name, value in {  # for this process
        "ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_ETAG_TIMEOUT": 2,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    close_session()
    yield hub
    close_session()
    hub.close()


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Attempt]:
    database = connect(f"sqlite:///{tmp_path / 'db'}")
    upgrade(database, tmp_path / "lock")
    place = Workplace(session_factory(database), Files(tmp_path), Settings(data_dir=tmp_path), "me")
    with place.sessions.begin() as session:
        body = REQUEST.model_dump(mode="json")
        session.add(Job(id="job_1", kind="search", request=body, status="running", attempt=1))
    yield Attempt(place, "job_1", 1)
    database.dispose()


def test_a_job_asks_again_and_goes_on_once_the_hub_is_back(
    hub: HubOfFiles, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mood = "503"
    waited: list[float] = []

    def back(self: Attempt, seconds: float) -> None:
        waited.append(seconds)
        hub.mood = "serve"

    monkeypatch.setattr(Attempt, "_wait", back)
    assert story.validate(attempt.story())["name"] == "hf-hub:me/good"
    assert waited == [2.0]


def test_networks_with_weights_are_asked_for_again_as_a_teacher_is(
    hub: HubOfFiles, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []

    def back(self: Attempt, seconds: float) -> None:
        waited.append(hub.mood)
        hub.mood = "serve"

    monkeypatch.setattr(Attempt, "_wait", back)
    hub.files |= {name.replace("good", "other"): content for name, content in hub.files.items()}
    opened = attempt.story().opened
    hub.mood = "503"
    (found,) = opened.networks((StockNetwork(name="hf-hub:me/other"),))
    assert (found.label, waited) == ("hf-hub:me/other", ["503"])
    with pytest.raises(ArchsearchError) as caught:
        opened.networks((StockNetwork(name="hf-hub:me/other"), StockNetwork(name="hf-hub:me/missing")))
    assert caught.value.field == "search.pretrained.1"


def test_a_hub_that_stays_away_is_the_jobs_end_and_may_be_tried_again(
    hub: HubOfFiles, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mood = "503"
    monkeypatch.setattr(jobs, "_AWAY_S", (0.1,))
    with pytest.raises(Unavailable) as caught:
        story.validate(attempt.story())
    assert caught.value.retryable


def test_a_job_that_waits_for_a_silent_hub_is_cancelled_within_seconds(
    hub: HubOfFiles, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.mood = "silent"
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "300")
    ended: list[Any] = []

    def validate() -> None:
        try:
            story.validate(attempt.story())
        except Cancelled:
            ended.append(time.monotonic())

    running = threading.Thread(target=validate)
    running.start()
    deadline = time.monotonic() + 60
    while not hub.asked and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hub.asked, "nobody asked the hub"
    with attempt.place.sessions.begin() as session:
        session.execute(sa.update(Job).values(status="cancelling"))
    cancelled = time.monotonic()
    running.join(60)
    assert ended
    assert ended[0] - cancelled < 5
