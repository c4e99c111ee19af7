"""The main job over HTTP: a real server, a real worker, a real teacher, and what they leave behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from archsearch import export
from archsearch.zoos.transformers.folder import TOKENIZER_FILES
from examples.demo import evaluate
from tests.service.conftest import House
from tests.service.server import ROOT, wait

pytestmark = pytest.mark.smoke


@dataclass(frozen=True)
class Finished:
    """The main job after its end, as a client that followed it saw it."""

    job: dict[str, Any]
    seen: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(house: House) -> Finished:
    job_id = house.server.submit(house.request(name="the main job"))
    seen = list(house.server.client.watch(job_id))
    return Finished(house.server.client.job(job_id), seen)


def artifacts(house: House, job_id: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in house.server.http.get(f"/v1/jobs/{job_id}/artifacts").json()}


def stream(house: House, job_id: str, **headers: str) -> httpx.Response:
    headers = {"Accept": "text/event-stream", **headers}
    return house.server.http.get(f"/v1/jobs/{job_id}/events", headers=headers)


def test_the_main_job_succeeds(finished: Finished) -> None:
    job = finished.job
    assert (job["status"], job["error"], job["attempt"], job["progress"]) == ("succeeded", None, 1, 1.0), job
    assert (job["kind"], job["name"], job["candidates_scored"]) == ("search_and_distill", "the main job", 10)
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    result = job["result"]
    assert result["search"]["candidates_scored"] == 10
    assert result["search"]["infeasible_scored"] == 0
    assert 0 < result["student"]["params"] <= 0.5 * result["teacher"]["params"]
    assert result["student"]["architecture"] == result["search"]["winner"]["architecture"]
    assert result["student"]["epochs"] == 3
    assert result["teacher"]["test_acc"] > 50


def test_events_come_in_order_and_end_with_done(finished: Finished) -> None:
    seen = finished.seen
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert [event["type"] for event in seen[:2]] == ["queued", "started"]
    assert [event["type"] for event in seen].count("done") == 1
    assert seen[-1]["type"] == "done"
    assert seen[-1]["data"]["status"] == "succeeded"
    phases = [event["data"]["phase"] for event in seen if event["type"] == "phase"]
    assert phases == ["validating", "searching", "distilling", "exporting"]
    assert [event["data"]["at"] for event in seen] == sorted(event["data"]["at"] for event in seen)
    # However fast a phase is, its end is told.
    ends = [event["data"]["phase"] for event in seen if event["data"].get("progress") == 1.0]
    assert ends == ["searching", "distilling"]
    told = [event["data"] for event in seen if "terms" in event["data"]]
    assert told
    for data in told:
        assert list(data["terms"]) == ["labels", finished.job["result"]["student"]["method"]]
        assert sum(data["terms"].values()) == pytest.approx(data["loss"], rel=1e-5)


def test_a_stream_goes_on_after_the_last_event_a_client_saw(house: House, finished: Finished) -> None:
    last = len(finished.seen)
    whole = stream(house, finished.job["id"])
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.text.count("\nevent: ") == last
    rest = stream(house, finished.job["id"], **{"Last-Event-ID": str(last - 2)}).text
    assert [line for line in rest.splitlines() if line.startswith("id: ")] == [f"id: {last - 1}", f"id: {last}"]
    found = house.server.http.get(f"/v1/jobs/{finished.job['id']}/events", params={"after": last - 2}).json()
    assert [(event["seq"], event["type"]) for event in found][-1] == (last, "done")


@pytest.mark.parametrize("seen", ["last", "999999999999999999"])
def test_a_stream_with_nothing_left_to_say_ends_instead_of_waiting(house: House, finished: Finished, seen: str) -> None:
    seen = str(len(finished.seen)) if seen == "last" else seen
    assert stream(house, finished.job["id"], **{"Last-Event-ID": seen}).status_code == 204


@pytest.mark.parametrize("nonsense", [b"\xb2", b"-1", b"9" * 30, b"9" * 5000, b"", b"1; DROP"])
def test_a_senseless_last_event_id_starts_from_the_beginning(house: House, finished: Finished, nonsense: bytes) -> None:
    headers = {b"Accept": b"text/event-stream", b"Last-Event-ID": nonsense}
    found = house.server.http.get(f"/v1/jobs/{finished.job['id']}/events", headers=headers)
    assert (found.status_code, found.text[:6]) == (200, "id: 1\n")


def test_candidates_are_within_the_budget_best_first_and_their_votes_add_up(house: House, finished: Finished) -> None:
    rows = house.server.client.candidates(finished.job["id"])
    result = finished.job["result"]
    assert sorted(row["number"] for row in rows) == list(range(10))
    assert len({json.dumps(row["architecture"], sort_keys=True) for row in rows}) == 10
    assert all(row["state"] == "scored" for row in rows)
    assert all(row["params"] <= 0.5 * result["teacher"]["params"] for row in rows)
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert all(row["score"] == pytest.approx(sum(row["votes"].values())) for row in rows)
    assert rows[0]["architecture"] == result["search"]["winner"]["architecture"]
    page = house.server.http.get(f"/v1/jobs/{finished.job['id']}/candidates", params={"limit": 3, "offset": 2}).json()
    assert page == rows[2:5]


def test_artifacts_come_whole_in_parts_and_only_when_they_are_new(house: House, finished: Finished) -> None:
    found = artifacts(house, finished.job["id"])
    # Photos need no tokenizer, and one student alone no front.
    ours = set(export.PUBLIC) - {*TOKENIZER_FILES, export.FRONT, export.PICTURE}
    assert sorted(found) == sorted([*ours, export.ARCHIVE])
    for artifact in found.values():
        path, get = f"/v1/artifacts/{artifact['id']}/content", house.server.http.get
        whole = get(path)
        assert hashlib.sha256(whole.content).hexdigest() == artifact["sha256"]
        assert len(whole.content) == artifact["size_bytes"]
        assert whole.headers["content-type"] == artifact["media_type"]
        assert artifact["name"] in whole.headers["content-disposition"]
        etag = whole.headers["etag"]
        assert etag == f'"{artifact["sha256"]}"'
        part = get(path, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{artifact['size_bytes']}"
        assert get(path, headers={"Range": "bytes=10-19", "If-Range": etag}).status_code == 206
        assert get(path, headers={"Range": "bytes=10-19", "If-Range": '"old"'}).status_code == 200
        assert get(path, headers={"Range": f"bytes={10**12}-"}).status_code == 416
        for known in (etag, f'"old", {etag}', f"W/{etag}", "*"):
            again = get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b""), known
        assert get(path, headers={"If-None-Match": '"old"'}).status_code == 200
        assert house.server.http.get(f"/v1/artifacts/{artifact['id']}").json() == artifact


def test_the_zip_holds_the_same_files(house: House, finished: Finished) -> None:
    found = artifacts(house, finished.job["id"])
    content = {name: house.server.http.get(f"/v1/artifacts/{row['id']}/content").content for name, row in found.items()}
    with zipfile.ZipFile(io.BytesIO(content.pop("student.zip"))) as archive:
        assert {name: archive.read(f"student/{name}") for name in content} == content
        assert len(archive.namelist()) == len(content)
    manifest = json.loads(content["manifest.json"])
    assert manifest["job"] == finished.job["id"]
    assert manifest["student"] == finished.job["result"]["student"]


def test_the_student_loads_in_a_fresh_interpreter_and_is_as_good_as_its_result_says(
    house: House, finished: Finished, tmp_path: Path
) -> None:
    paths = house.server.client.download(finished.job["id"], tmp_path / "student")
    assert {path.name for path in paths} >= {"config.json", "manifest.json", "model.safetensors"}
    assert evaluate(tmp_path / "student", house.npz) == pytest.approx(finished.job["result"]["student"]["test_acc"])


def test_a_search_alone_ends_with_a_winner_and_a_manifest(house: House) -> None:
    job_id = house.server.submit(house.request(kind="search", search={"candidates": 4, "batch_size": 32}))
    job = house.server.wait_for(job_id, "succeeded")
    assert "student" not in job["result"]
    assert job["result"]["search"]["winner"]["params"] > 0
    assert list(artifacts(house, job_id)) == ["manifest.json"]


@pytest.mark.slow
def test_a_distillation_alone_can_do_without_the_teacher(house: House, finished: Finished) -> None:
    architecture = finished.job["result"]["search"]["winner"]["architecture"]
    request = house.request(
        kind="distill",
        student={"space": "resnet_cifar", "architecture": architecture},
        distill={"method": "none", "epochs": 1, "batch_size": 64},
    )
    job = house.server.wait_for(house.server.submit(request), "succeeded")
    assert "search" not in job["result"]
    assert job["result"]["student"]["method"] == "none"
    assert job["result"]["student"]["architecture"] == architecture
    assert job["candidates_scored"] == 0
    assert "model.safetensors" in artifacts(house, job["id"])


def test_an_idempotency_key_makes_one_job_of_many_requests(house: House) -> None:
    request = house.request(kind="search", search={"candidates": 1, "batch_size": 32})
    headers = {"Idempotency-Key": "once-only"}
    answers: list[httpx.Response] = []

    def post() -> None:
        answers.append(httpx.post(f"{house.server.url}/v1/jobs", json=request, headers=headers, trust_env=False))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    (job_id,) = {answer.json()["id"] for answer in answers}
    again = house.server.http.post("/v1/jobs", json=request, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, job_id)
    assert again.headers["location"] == f"/v1/jobs/{job_id}"
    other = house.server.http.post("/v1/jobs", json={**request, "name": "another"}, headers=headers)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    house.server.wait_for(job_id, "succeeded")
    assert [event["type"] for event in house.server.events(job_id)].count("queued") == 1


def test_a_job_that_has_not_changed_is_not_sent_again(house: House, finished: Finished) -> None:
    path = f"/v1/jobs/{finished.job['id']}"
    first = house.server.http.get(path)
    etag = first.headers["etag"]
    again = house.server.http.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert house.server.http.get(path, headers={"If-None-Match": '"old"'}).json() == first.json()


def test_lists_come_in_pages_newest_first(house: House, finished: Finished) -> None:
    get, found, after = house.server.http.get, [], None
    whole = get("/v1/jobs", params={"limit": 200}).json()["data"]
    while True:
        page = get("/v1/jobs", params={"limit": 1} | ({"after": after} if after else {})).json()
        found += page["data"]
        assert page["has_more"] == (page["next_after"] is not None)
        if not page["has_more"]:
            break
        after = page["next_after"]
    assert [job["id"] for job in found] == [job["id"] for job in whole]
    assert finished.job["id"] in [job["id"] for job in whole]
    created = [job["created_at"] for job in whole]
    assert created == sorted(created, reverse=True)
    searches = get("/v1/jobs", params={"kind": "search", "status": "succeeded"}).json()["data"]
    assert all((job["kind"], job["status"]) == ("search", "succeeded") for job in searches)
    for room in ("teachers", "datasets"):
        assert house.named[room.removesuffix("s").replace("dataset", "data")]["id"] in [
            row["id"] for row in get(f"/v1/{room}").json()["data"]
        ]


def test_a_cancelled_job_stops_soon_and_the_worker_goes_on_with_the_next(house: House) -> None:
    server = house.server
    running = server.submit(house.request(distill={"epochs": 5000, "batch_size": 64}))
    queued = server.submit(house.request(kind="search"))
    following = server.submit(house.request(kind="search", search={"candidates": 2, "batch_size": 32}))
    wait(lambda: server.client.job(running)["phase"] == "distilling", lambda: str(server.client.job(running)))
    assert server.client.job(queued)["status"] == "queued"

    assert server.client.cancel(queued)["status"] == "cancelled"
    assert server.client.cancel(running)["status"] == "cancelling"
    started = time.monotonic()
    job = server.wait_for(running, "cancelled")
    assert time.monotonic() - started < 10
    assert job["error"]["code"] == "cancelled"
    server.wait_for(following, "succeeded")

    for job_id in (running, queued, following):
        again = server.http.post(f"/v1/jobs/{job_id}:cancel")
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
        assert [event["type"] for event in server.events(job_id)][-1] == "done"
    # The queued one never began.
    assert [event["type"] for event in server.events(queued)] == ["queued", "done"]
    assert server.client.job(queued)["attempt"] == 0
    refused = server.http.get(f"/v1/jobs/{running}/artifacts")
    assert (refused.status_code, "cancelled" in refused.json()["detail"]) == (409, True)


def test_clients_that_leave_their_streams_cost_the_server_nothing(house: House) -> None:
    server = house.server
    job_id = server.submit(house.request(distill={"epochs": 5000, "batch_size": 64}))
    wait(lambda: server.client.job(job_id)["status"] == "running", lambda: "it does not run")
    folder = f"/proc/{server.process.pid}/fd"

    def sockets() -> int:
        found = 0
        for fd in os.listdir(folder):
            with suppress(FileNotFoundError):  # closed since it was listed
                found += os.readlink(f"{folder}/{fd}").startswith("socket:")
        return found

    before = sockets()
    for _ in range(30):
        with httpx.stream(
            "GET", f"{server.url}/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}, trust_env=False
        ) as answer:
            assert next(answer.iter_lines()) == "id: 1"
    wait(lambda: sockets() <= before + 1, lambda: f"{sockets()} sockets, {before} before", 20)
    server.client.cancel(job_id)
    server.wait_for(job_id, "cancelled")


def test_the_shell_speaks_to_the_same_server(house: House, finished: Finished, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archsearch", "download", finished.job["id"], "--out", str(tmp_path / "student")]
    environment = {**os.environ, "ARCHSEARCH_URL": house.server.url}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    names = {Path(line).name for line in done.stdout.split()}
    assert names >= {"config.json", "manifest.json", "model.safetensors"}


def test_the_password_of_a_database_is_in_no_command_line(house: House) -> None:
    pid = house.server.worker_pid()
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert b"worker-1" in command
    assert not any(b"://" in word for word in command)


def test_nobody_else_reads_what_is_kept(house: House, finished: Finished) -> None:
    folder = house.server.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    opened = [path for path in folder.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert opened == []
