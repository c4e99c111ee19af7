from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.api.conftest import Json, Refused, Send, npz, small_arrays


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


def with_nan() -> Json:
    arrays = small_arrays()
    x_train = arrays["x_train"].astype(np.float32) / 255
    x_train[3, 2, 1] = np.nan
    return {**arrays, "x_train": x_train, "x_test": arrays["x_test"].astype(np.float32) / 255}


def outside() -> Json:
    arrays = small_arrays()
    return {**arrays, "y_test": arrays["y_test"] + 7}


BAD_ARRAYS: list[tuple[Callable[[], bytes], str | None, str]] = [
    (lambda: npz(**with_nan()), "x_train", "image 3 holds NaN"),
    (lambda: npz(**outside()), "y_test", ""),
    (lambda: npz(**{**small_arrays(), "y_train": -small_arrays()["y_train"]}), "y_train", ""),
    (lambda: npz(**{**small_arrays(), "y_train": small_arrays()["y_train"][:-1]}), "y_train", ""),
    (lambda: npz(**{**small_arrays(), "x_train": np.array([{}] * 120, dtype=object)}), "x_train", "object"),
    (lambda: npz(**{**small_arrays(), "y_train": np.array(["cat"] * 120, dtype=object)}), "y_train", "object"),
    (lambda: npz(x_test=small_arrays()["x_test"], y_test=small_arrays()["y_test"]), "x_train", "x_train"),
    (lambda: npz(**{**small_arrays(), "y_train": np.eye(4)[small_arrays()["y_train"]]}), "y_train", "argmax"),
    (lambda: npz(**small_arrays())[:-200], None, ""),
    (lambda: npz(**small_arrays())[:5000], None, ""),
    (lambda: b"\n", None, ""),
    (lambda: b"\x93NUMPY but no zip", None, ""),
]


@pytest.mark.parametrize(("make", "field", "part"), BAD_ARRAYS)
def test_arrays_nothing_can_be_learned_from_are_refused_by_name(
    refused: Refused, send: Send, make: Callable[[], bytes], field: str | None, part: str
) -> None:
    upload = send(make())
    body = {"upload": upload, "format": "npz"}
    with refused.nothing_created():
        answer = refused.client.post("/v1/datasets", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_data"), problem
    assert answer.headers["content-type"] == "application/problem+json"
    # The file as a whole is at fault where no array is.
    assert problem["field"] == field or field is None, problem
    assert part in problem["detail"]


BAD_FOLDERS: list[tuple[Mapping[str, bytes], int, str]] = [
    ({**PICTURES, "../../evil.png": picture()}, 422, "evil.png"),
    ({**PICTURES, "/etc/evil.png": picture()}, 422, "evil.png"),
    ({**PICTURES, "cat/../../evil.png": picture()}, 422, "evil.png"),
    ({**PICTURES, "cat/huge.png": b"\0" * 30_000_000}, 413, ""),
    ({**PICTURES, "lonely/1.png": picture()}, 422, "lonely"),
    ({**PICTURES, "cat/broken.png": picture()[:60]}, 422, "broken.png"),
    ({**PICTURES, "cat/text.png": b"this is no picture"}, 422, "text.png"),
    ({"cat/1.png": picture(), "cat/2.png": picture(1)}, 422, ""),
    ({}, 422, ""),
]


@pytest.mark.parametrize(("members", "status", "part"), BAD_FOLDERS)
def test_folders_of_images_are_refused_by_member(
    refused: Refused, send: Send, members: Mapping[str, bytes], status: int, part: str
) -> None:
    body = {"upload": send(folder(members)), "format": "image_folder"}
    with refused.nothing_created():
        answer = refused.client.post("/v1/datasets", json=body)
    problem = answer.json()
    code = "too_large" if status == 413 else "invalid_data"
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert part in f"{problem['field']}: {problem['detail']}"
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_folder_of_images_becomes_a_data_set(client: TestClient, send: Send) -> None:
    body = {"upload": send(folder(PICTURES)), "format": "image_folder", "name": "animals", "image_size": 6}
    answer = client.post("/v1/datasets", json=body)
    found = answer.json()
    assert (answer.status_code, found["name"], found["format"]) == (201, "animals", "image_folder"), found
    assert found["task"]["class_names"] == ["cat", "horse"]
    assert [found["task"][name] for name in ("classes", "in_chans", "height", "width")] == [2, 3, 6, 6]
    assert sum(found["splits"].values()) == len(PICTURES)
    assert client.get(f"/v1/datasets/{found['id']}").json() == found


def test_images_of_any_size_become_height_and_width_and_broken_ones_are_left_out(
    client: TestClient, send: Send
) -> None:
    members = {**PICTURES, "cat/large.png": picture(3, 40, 90), "cat/broken.png": b"this is no picture"}
    body = {"upload": send(folder(members)), "format": "image_folder", "image_size": [6, 8]}
    answer = client.post("/v1/datasets", json={**body, "fit": "pad", "on_broken": "skip"})
    found = answer.json()
    assert answer.status_code == 201, found
    assert [found["task"][name] for name in ("height", "width", "fit")] == [6, 8, "pad"]
    assert sum(found["splits"].values()) == len(members) - 1


def test_arrays_with_many_labels_become_a_data_set(client: TestClient, send: Send) -> None:
    arrays = small_arrays()
    flags = {f"y_{name}": np.stack([arrays[f"y_{name}"] % n == 0 for n in (1, 2, 3)], 1) for name in ("train", "test")}
    for y_NK in flags.values():
        y_NK[::5] = False
    names = np.array(["sky", "tree", "car"])
    body = {"upload": send(npz(**{**arrays, **flags, "class_names": names})), "format": "npz"}
    answer = client.post("/v1/datasets", json=body)
    task = answer.json()["task"]
    assert answer.status_code == 201, answer.text
    assert (task["kind"], task["classes"], task["class_names"]) == ("multilabel", 3, ["sky", "tree", "car"])
    assert task["prevalence"] == pytest.approx([0.8, 0.4, 0.4], abs=0.02)


def test_a_folder_with_a_table_of_labels_becomes_a_data_set(client: TestClient, send: Send) -> None:
    rows = [f"images/{i}.png,{'test' if i > 9 else 'train'},{i % 2},{int(i % 3 == 0)}\n" for i in range(12)]
    members = {f"images/{i}.png": picture(i) for i in range(12)}
    table = ("file,split,cat,dog\n" + "".join(rows)).encode()
    body = {"upload": send(folder({**members, "labels.csv": table})), "format": "image_folder", "image_size": 6}
    answer = client.post("/v1/datasets", json=body)
    found = answer.json()
    assert answer.status_code == 201, found
    assert (found["task"]["kind"], found["task"]["class_names"]) == ("multilabel", ["cat", "dog"])
    assert (found["splits"]["test"], sum(found["splits"].values())) == (2, 12)


def test_a_wrong_table_of_labels_is_refused_by_line(refused: Refused, send: Send) -> None:
    members = {"1.png": picture(), "labels.csv": b"file,cat,dog\n1.png,1,maybe\n"}
    body = {"upload": send(folder(members)), "format": "image_folder"}
    part = "line 2: dog is 'maybe'"
    problem = {"status": 422, "code": "invalid_data", "field": "labels.csv", "part": part}
    refused("POST", "/v1/datasets", json=body, **problem)


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"format": "csv"}, "format", "'npz'"),
        ({"image_size": 32}, "image_size", "only image_folder"),
        ({"image_size": 3, "format": "image_folder"}, "image_size", "each of 4 to 512"),
        ({"upload": "../x"}, "upload", "match pattern"),
        ({"fromat": "npz"}, None, "did you mean 'format'?"),
    ],
)
def test_a_question_about_data_that_makes_no_sense_is_refused(
    refused: Refused, send: Send, changes: dict[str, Any], field: str | None, part: str
) -> None:
    body = {"upload": send(b"x"), "format": "npz", **changes}
    refused("POST", "/v1/datasets", status=422, code="invalid_request", field=field, part=part, json=body)


def test_an_upload_nobody_made_is_not_found(refused: Refused) -> None:
    body = {"upload": "up_" + "0" * 20, "format": "npz"}
    refused("POST", "/v1/datasets", status=404, code="not_found", field="upload", part="there is no upload", json=body)
