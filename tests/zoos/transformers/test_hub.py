"""An encoder from the hub: the few files that are read, all of one state of the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import close_session

from archsearch import domains
from archsearch.domains.text.spec import TextData
from archsearch.errors import InvalidRequest, TeacherError, Unavailable
from archsearch.request import TimmTeacher
from archsearch.teachers import hub as files
from archsearch.teachers import load_teacher
from archsearch.zoos.transformers.hub import at_hand, fetch_folder, local_folder
from archsearch.zoos.transformers.load import load_folder
from tests.hub import HubOfFiles, ask
from tests.zoos.transformers.encoders import task_of, write_folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubOfFiles]:
    write_folder(tmp_path / "bert", "bert")
    (tmp_path / "bert" / "pytorch_model.bin").write_bytes(b"never asked for")
    hub = HubOfFiles({f"me/bert/{path.name}": path.read_bytes() for path in (tmp_path / "bert").iterdir()})
    ask(hub, tmp_path / "cache", monkeypatch)
    yield hub
    close_session()
    hub.close()


def test_a_repository_is_a_folder_with_what_is_read_and_no_more(hub: HubOfFiles, tmp_path: Path) -> None:
    folder = fetch_folder("hf-hub:me/bert")
    found = {path.name for path in folder.iterdir()}
    assert found == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert load_folder(folder, task_of()).sha256 == load_folder(tmp_path / "bert").sha256
    assert local_folder("hf-hub:me/bert") == folder == local_folder(str(folder))
    hub.mood = "503"
    assert fetch_folder("hf-hub:me/bert") == folder, "what was fetched before needs no hub"


def test_a_repository_is_a_teacher_of_texts(hub: HubOfFiles, tmp_path: Path) -> None:
    rows = [f"word{2 + i % 3} word{i},{i % 3}" for i in range(5, 40)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    table = domains.load(TextData(path=tmp_path / "texts.csv", max_length=12))
    found = domains.of(table.task).load_teacher(TimmTeacher(name="hf-hub:me/bert"), None, table)
    assert (found.name, found.sha256) == ("hf-hub:me/bert", load_folder(tmp_path / "bert").sha256)
    with pytest.raises(TeacherError, match="give its path, or hf-hub:owner/name"):
        domains.of(table.task).load_teacher(TimmTeacher(name="resnet18"), None, table)


def test_a_hub_that_does_not_answer_is_away(hub: HubOfFiles) -> None:
    hub.mood = "503"
    with pytest.raises(Unavailable, match="the hub does not answer"):
        fetch_folder("hf-hub:me/bert")


def test_a_repository_that_lacks_a_file_is_refused(hub: HubOfFiles) -> None:
    del hub.files["me/bert/model.safetensors"]
    with pytest.raises(TeacherError, match=r"no model\.safetensors to be had") as caught:
        fetch_folder("hf-hub:me/bert")
    assert caught.value.field == "teacher.name"
    with pytest.raises(InvalidRequest, match="say hf-hub:owner/name"):
        fetch_folder("me/bert")


def test_a_repository_is_at_hand_once_its_tokenizer_is_there_too(hub: HubOfFiles) -> None:
    named = "hf-hub:me/bert"
    assert not at_hand(named)
    files.require_safetensors(named, "me/bert")
    files.require_plain_config(named)
    assert not at_hand(named), "a job would wait for the tokenizer in the middle of its work"
    domains.get("text_classification").fetch(named)
    assert at_hand(named)
    asked = hub.asked
    assert at_hand(named)
    assert hub.asked == asked


def test_nothing_larger_than_could_be_used_is_fetched(
    hub: HubOfFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_FILE_BYTES", 2**12)
    hub.files["me/bert/tokenizer.json"] = b" " * (2**12 + 1)
    with pytest.raises(TeacherError, match=r"tokenizer\.json has 4,097 bytes, at most 4,096 are fetched"):
        fetch_folder("hf-hub:me/bert")
    monkeypatch.setattr(files, "machine_bytes", lambda: 100)
    with pytest.raises(TeacherError, match=r"model\.safetensors has [\d,]+ bytes, at most 100 are fetched"):
        files.require_safetensors("hf-hub:me/bert", "me/bert")
    kept = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert not {"tokenizer.json", "model.safetensors"} & kept


def test_a_repository_of_another_network_is_refused_before_its_weights_are_fetched(
    hub: HubOfFiles, tmp_path: Path
) -> None:
    hub.files["me/bert/config.json"] = b'{"model_type": "gpt2"}'
    with pytest.raises(TeacherError, match="'gpt2' is no encoder known here"):
        fetch_folder("hf-hub:me/bert")
    assert not [
        path for path in (tmp_path / "cache").rglob("*") if path.name in ("model.safetensors", "tokenizer.json")
    ]


def test_an_encoder_on_the_hub_is_no_teacher_of_images(hub: HubOfFiles, tmp_path: Path) -> None:
    images = domains.get("image_classification")
    for ask_for in (lambda: images.fetch("hf-hub:me/bert"), lambda: load_teacher(TimmTeacher(name="hf-hub:me/bert"))):
        with pytest.raises(TeacherError, match="is an encoder of texts"):
            ask_for()
    assert not {path.name for path in (tmp_path / "cache").rglob("model.safetensors")}
