from __future__ import annotations

import errno
import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from archsearch.domains import open_dataset
from archsearch.store.models import DatasetRow
from tests.api.conftest import Refused, Send, finish, npz, request, small_arrays


def picture(seed: int = 0, height: int = 8, width: int = 8) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


PICTURES = {f"{name}/{i}.png": picture(10 * i + len(name)) for name in ("cat", "horse") for i in range(12)}


def folder(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_folder_of_images_becomes_a_data_set(client: TestClient, send: Send) -> None:
    content = folder(PICTURES)
    body = {"upload": send(content), "format": "image_folder", "name": "animals", "image_size": 6}
    answer = client.post("/v1/datasets", json=body)
    checking = answer.json()
    assert (answer.status_code, checking["status"], checking["progress"]) == (202, "checking", 0.0), checking
    assert (answer.headers["retry-after"], checking["task"], checking["splits"]) == ("1", None, None)
    found = finish(client, answer.headers["location"])
    assert (found["status"], found["progress"], found["error"]) == ("ready", 1.0, None), found
    assert (found["id"], found["name"], found["format"]) == (checking["id"], "animals", "image_folder")
    # The client that gave up and asks again, be it with the content uploaded anew, is told of the same data set.
    again = client.post("/v1/datasets", json={**body, "upload": send(content)})
    assert (again.status_code, again.json()) == (200, found)
    other = client.post("/v1/datasets", json={**body, "image_size": 7}).json()
    assert other["id"] != found["id"]
    assert found["task"]["class_names"] == ["cat", "horse"]
    assert [found["task"][name] for name in ("classes", "in_chans", "height", "width")] == [2, 3, 6, 6]
    assert sum(found["splits"].values()) == len(PICTURES)
    assert client.get(f"/v1/datasets/{found['id']}").json() == found


@pytest.mark.parametrize("lost", ["all", "train_x.npy", "task.json"])
def test_a_data_set_whose_files_are_lost_is_read_again(client: TestClient, send: Send, lost: str) -> None:
    content = npz(**small_arrays(count=130 + len(lost)))
    body = {"upload": send(content), "format": "npz"}
    path = client.post("/v1/datasets", json=body).headers["location"]
    before = finish(client, path)
    services = client.app.state.services  # type: ignore[attr-defined]
    services.engine.cancel(before["id"])  # no worker ran this start, which has ended by now
    folder = services.files.dataset(before["id"])
    shutil.rmtree(folder) if lost == "all" else (folder / lost).unlink()
    upload = send(content)
    answer = client.post("/v1/datasets", json={**body, "upload": upload})
    again = answer.json()
    assert (answer.status_code, again["id"], again["status"], again["progress"]) == (202, before["id"], "checking", 0.0)
    with services.sessions() as session:
        assert f"{before['id']}:1" in services.engine.owners(session, before["id"])
    assert finish(client, path) == {**before, "upload": upload}
    assert open_dataset(folder).sha256 == before["sha256"]


def test_a_refusal_that_quotes_a_full_disk_is_one_all_the_same(
    client: TestClient, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archsearch.engine.worker.pause", lambda seconds: pytest.fail("it waits for room"))
    content = folder({**PICTURES, f"{os.strerror(errno.ENOSPC)}/1.png": b"this is no picture"})
    answer = client.post(
        "/v1/datasets", json={"upload": send(content), "format": "image_folder", "image_size": 6, "on_broken": "refuse"}
    )
    assert answer.status_code == 202, answer.text
    found = finish(client, answer.headers["location"])
    assert (found["status"], found["error"]["code"]) == ("refused", "invalid_data"), found


def test_images_of_any_size_become_height_and_width_and_broken_ones_are_left_out(
    client: TestClient, send: Send
) -> None:
    members = {**PICTURES, "cat/large.png": picture(3, 40, 90), "cat/broken.png": b"this is no picture"}
    body = {"upload": send(folder(members)), "format": "image_folder", "image_size": [6, 8]}
    answer = client.post("/v1/datasets", json={**body, "fit": "pad", "on_broken": "skip"})
    found = finish(client, answer.headers["location"])
    assert [found["task"][name] for name in ("height", "width", "fit")] == [6, 8, "pad"]
    assert sum(found["splits"].values()) == len(members) - 1


def test_arrays_with_many_labels_become_a_data_set(client: TestClient, send: Send) -> None:
    arrays = small_arrays()
    flags = {f"y_{name}": np.stack([arrays[f"y_{name}"] % n == 0 for n in (1, 2, 3)], 1) for name in ("train", "test")}
    for y_NK in flags.values():
        y_NK[::5] = False
    names = np.array(["sky", "tree", "car"])
    body = {"upload": send(npz(**{**arrays, **flags, "class_names": names})), "format": "npz"}
    task = finish(client, client.post("/v1/datasets", json=body).headers["location"])["task"]
    assert (task["kind"], task["classes"], task["class_names"]) == ("multilabel", 3, ["sky", "tree", "car"])
    assert task["prevalence"] == pytest.approx([0.8, 0.4, 0.4], abs=0.02)


def test_a_folder_with_a_table_of_labels_becomes_a_data_set(client: TestClient, send: Send) -> None:
    rows = [f"images/{i}.png,{'test' if i > 9 else 'train'},{i % 2},{int(i % 3 == 0)}\n" for i in range(12)]
    members = {f"images/{i}.png": picture(i) for i in range(12)}
    table = ("file,split,cat,dog\n" + "".join(rows)).encode()
    body = {"upload": send(folder({**members, "labels.csv": table})), "format": "image_folder", "image_size": 6}
    found = finish(client, client.post("/v1/datasets", json=body).headers["location"])
    assert (found["task"]["kind"], found["task"]["class_names"]) == ("multilabel", ["cat", "dog"])
    assert (found["splits"]["test"], sum(found["splits"].values())) == (2, 12)


def table(count: int = 60, columns: str = "words,what") -> bytes:
    return (columns + "\n" + "".join(f"text number {i},{('bad', 'good')[i % 2]}\n" for i in range(count))).encode()


def test_texts_become_a_data_set(client: TestClient, send: Send) -> None:
    body = {"format": "text", "name": "words", "text_column": "words", "label_column": "what", "max_length": 32}
    content = table()
    answer = client.post("/v1/datasets", json={**body, "upload": send(content)})
    assert (answer.status_code, answer.json()["status"]) == (202, "checking"), answer.text
    found = finish(client, answer.headers["location"])
    assert (found["status"], found["progress"], found["error"], found["format"]) == ("ready", 1.0, None, "text"), found
    assert (found["task"]["domain"], found["task"]["class_names"]) == ("text_classification", ["bad", "good"])
    assert (found["task"]["max_length"], found["task"]["pair"], found["task"]["kind"]) == (32, False, "classification")
    assert sum(found["splits"].values()) == 60
    assert (found["notes"], found["options"]["text_column"]) == (None, "words")
    again = client.post("/v1/datasets", json={**body, "upload": send(content)})
    assert (again.status_code, again.json()) == (200, found)
    assert client.post("/v1/datasets", json={**body, "upload": send(content), "max_length": 33}).status_code == 202


def test_pairs_with_many_labels_become_a_data_set(client: TestClient, send: Send) -> None:
    rows = (f"one {i}\ttwo {i}\t{'ab'[i % 2]}|{'cd'[i // 2 % 2]}\n" for i in range(80))
    content = ("sentence1\tsentence2\tlabels\n" + "".join(rows)).encode()
    body = {"upload": send(content), "format": "text"}
    found = finish(client, client.post("/v1/datasets", json=body).headers["location"])
    assert found["status"] == "ready", found
    task = found["task"]
    assert (task["kind"], task["pair"], task["class_names"]) == ("multilabel", True, ["a", "b", "c", "d"])
    assert task["prevalence"] == pytest.approx([0.5] * 4, abs=0.02)
    assert {note["code"] for note in found["notes"]} == {"labels_parted"}


def test_texts_in_a_zip_have_the_splits_of_its_files_and_tell_what_was_found(client: TestClient, send: Send) -> None:
    twice = table(40) + b"text number 0,bad\n"
    content = folder({"sst/train.csv": twice, "sst/validation.csv": table(10), "sst/test.csv": table(8)})
    body = {"format": "text", "text_column": "words", "label_column": "what", "duplicates": "warn"}
    found = finish(client, client.post("/v1/datasets", json={**body, "upload": send(content)}).headers["location"])
    assert found["splits"] == {"train": 41, "selection": 10, "test": 8}
    assert "repeated_texts" in {note["code"] for note in found["notes"]}, found["notes"]


@pytest.mark.parametrize(
    ("content", "options", "code", "field", "part"),
    [
        (table(), {}, "invalid_data", "text_column", "no column is called as a text usually is"),
        (table(columns="text,what"), {"label_column": "wat"}, "invalid_data", "label_column", "did you mean 'what'?"),
        (table(columns="text,label") + b"only one cell\n", {}, "invalid_data", "upload", "line 62 has 1 cells"),
        (b"\xff\xfe" + table(), {}, "invalid_data", "upload", "save it as UTF-8"),
        (table(6000, "text,label"), {}, "too_large", "upload", "more than 5,000 rows"),
        (folder({"../train.csv": table()}), {}, "invalid_data", "../train.csv", "climbs out"),
        (folder({"cat/1.png": picture()}), {}, "invalid_data", "upload", "holds no csv, tsv or jsonl file, only .png"),
    ],
)
def test_texts_that_cannot_be_learned_from_are_refused_by_column_and_line(
    client: TestClient, send: Send, content: bytes, options: dict[str, Any], code: str, field: str, part: str
) -> None:
    body = {"upload": send(content), "format": "text", **options}
    found = finish(client, client.post("/v1/datasets", json=body).headers["location"])
    assert (found["status"], found["error"]["code"], found["error"]["field"]) == ("refused", code, field), found
    assert part in found["error"]["detail"]
    assert (found["task"], found["splits"]) == (None, None)


def test_what_was_read_before_there_were_texts_is_the_same_data_set(client: TestClient, send: Send) -> None:
    """The question's hash is kept for good: nothing in it may change with the form of the body."""
    upload = send(folder(PICTURES))
    services = client.app.state.services  # type: ignore[attr-defined]
    for options, kept in (
        ({"format": "npz"}, {}),
        ({"format": "npz", "duplicates": "drop", "fit": "crop", "image_size": None}, {"duplicates": "drop"}),
        ({"format": "image_folder"}, {"image_size": None, "fit": "crop", "on_broken": "refuse"}),
        (
            {"format": "image_folder", "image_size": [6, 8]},
            {"image_size": [6, 8], "fit": "crop", "on_broken": "refuse"},
        ),
    ):
        id = client.post("/v1/datasets", json={**options, "upload": upload}).json()["id"]
        with services.sessions() as session:
            assert session.get(DatasetRow, id).options == kept


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"format": "csv"}, "format", "'npz'"),
        ({"image_size": 32}, "image_size", "no option of npz"),
        ({"max_length": 32}, "max_length", "no option of npz"),
        ({"format": "text", "fit": "pad"}, "fit", "no option of text"),
        ({"format": "text", "max_length": 4}, "max_length", "greater than or equal to 8"),
        ({"format": "text", "label_column": ["a"]}, "label_column", "a list of two columns or more"),
        ({"format": "text", "max_lenght": 32}, None, "did you mean 'max_length'?"),
        ({"image_size": 3, "format": "image_folder"}, "image_size", "each of 4 to 4096"),
        ({"upload": "../x"}, "upload", "match pattern"),
        ({"fromat": "npz"}, None, "did you mean 'format'?"),
    ],
)
def test_a_question_about_data_that_makes_no_sense_is_refused(
    refused: Refused, send: Send, changes: dict[str, Any], field: str | None, part: str
) -> None:
    body = {"upload": send(b"x"), "format": "npz", **changes}
    refused("POST", "/v1/datasets", status=422, code="invalid_request", field=field, part=part, json=body)


BAD = [
    (npz(**small_arrays())[:-200], "npz", "invalid_data", "upload", "damaged"),
    (npz(**{**small_arrays(), "y_train": np.array([{}] * 120)}), "npz", "invalid_data", "y_train", "object"),
    (folder({**PICTURES, "lonely/1.png": picture()}), "image_folder", "invalid_data", "lonely/", "1"),
    (folder({**PICTURES, "cat/huge.png": b"\0" * 30_000_000}), "image_folder", "too_large", "cat/huge.png", "bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "format", "code", "field", "part"), BAD)
def test_what_cannot_be_learned_from_is_refused_and_leaves_no_files(
    client: TestClient, send: Send, content: bytes, format: str, code: str, field: str, part: str
) -> None:
    body = {"upload": send(content), "format": format}
    path = client.post("/v1/datasets", json=body).headers["location"]
    found = finish(client, path)
    assert (found["status"], found["error"]["code"], found["error"]["field"]) == ("refused", code, field), found
    assert part in found["error"]["detail"]
    assert str(client.app.state.services.files.root) not in str(found)  # type: ignore[attr-defined]
    id = path.rpartition("/")[2]
    assert not list(client.app.state.services.files.dataset(id).parent.glob(f"*{id}*"))  # type: ignore[attr-defined]
    # Asked again it is read again: what refused it may have been a setting.
    assert client.post("/v1/datasets", json=body).headers["location"] != path
    refused = client.post("/v1/jobs", json=request(data={"kind": "dataset", "id": id}))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_data")


def test_a_job_has_to_wait_for_its_data(client: TestClient, send: Send, refused: Refused) -> None:
    content = npz(**{**small_arrays(), "class_names": np.array(list("abcd"))})
    body = {"upload": send(content), "format": "npz"}
    data = {"kind": "dataset", "id": client.post("/v1/datasets", json=body).json()["id"]}
    expected = {"status": 409, "code": "not_ready", "field": "data.id", "part": "is still being checked (0%)"}
    problem = refused("POST", "/v1/jobs", **expected, json=request(data=data))
    assert problem["retryable"]
    source = {"kind": "timm", "name": "resnet18"}
    refused("POST", "/v1/teachers", **expected, json={"source": source, "data": data})
    answer = client.post("/v1/jobs", json=request(data=data))
    assert answer.headers["retry-after"] == "2"
    finish(client, f"/v1/datasets/{data['id']}")
    taken = request(data=data, distill={"batch_size": 32})
    assert client.post("/v1/jobs", json=taken).status_code == 202


def test_a_key_names_one_data_set(client: TestClient, send: Send, refused: Refused) -> None:
    body = {"upload": send(folder(PICTURES)), "format": "image_folder", "image_size": 9}
    first, again = (client.post("/v1/datasets", json=body, headers={"Idempotency-Key": "d"}) for _ in range(2))
    assert first.json() == again.json()
    expected = {"status": 422, "code": "invalid_request", "field": "Idempotency-Key", "part": "another request"}
    other = {**body, "image_size": 10}
    refused("POST", "/v1/datasets", **expected, json=other, headers={"Idempotency-Key": "d"})


def test_many_at_once_make_one_data_set(client: TestClient, send: Send) -> None:
    body = {"upload": send(folder(PICTURES)), "format": "image_folder", "image_size": 11}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/datasets", json=body), range(12)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_what_a_killed_worker_left_is_removed_when_the_data_is_read_again(client: TestClient, send: Send) -> None:
    body = {"upload": send(folder(PICTURES)), "format": "image_folder", "image_size": 12}
    id = client.post("/v1/datasets", json=body).json()["id"]
    services = client.app.state.services  # type: ignore[attr-defined]
    left = services.files.dataset(f".{id}.0123")
    left.mkdir()
    assert finish(client, f"/v1/datasets/{id}")["status"] == "ready"
    assert not left.exists()


def test_an_upload_nobody_made_is_not_found(refused: Refused) -> None:
    body = {"upload": "up_" + "0" * 20, "format": "npz"}
    refused("POST", "/v1/datasets", status=404, code="not_found", field="upload", part="there is no upload", json=body)
