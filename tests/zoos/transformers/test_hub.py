"""An encoder from the hub: the few files that are read, all of one state of the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import close_session

from archsearch.errors import InvalidRequest, TeacherError, Unavailable
from archsearch.zoos.transformers.hub import fetch_folder
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
    hub.mood = "503"
    assert fetch_folder("hf-hub:me/bert") == folder, "what was fetched before needs no hub"


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
