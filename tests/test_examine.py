"""What a worker finds out about teachers that came as zips of folders, or of which only the hub knows what they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import torch
from huggingface_hub.utils import close_session
from safetensors.torch import load_file, save_file

from archsearch.data.pack import pack
from archsearch.domains import teacher_files
from archsearch.domains.unpack import unpack
from archsearch.errors import ArchsearchError, InvalidRequest
from archsearch.examine import examine
from tests.domains.text_classification.test_domain import write_texts
from tests.hub import HubOfFiles, ask
from tests.zoos.transformers.encoders import NAMES, stock, write_folder, write_tokenizer

NAMED = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A stored data set of texts, of the classes an encoder's folder has here."""
    folder = tmp_path_factory.mktemp("texts")
    path = write_texts(folder / "texts.csv")
    unpack(lambda share: None, str(path), "text", {"max_length": 12, "duplicates": "warn"}, {}, str(folder / "stored"))
    return str(folder / "stored")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    write_folder(tmp_path / "teacher", "bert", **NAMED)
    return tmp_path / "teacher"


def look(folder: Path, dataset: str | None = None, digits: Any = None) -> dict[str, Any]:
    """What a worker keeps of a zip of the folder."""
    path = pack(folder, folder.with_name("zip"), teacher_files())
    source = {"kind": "folder", "upload": "up_" + "0" * 20}
    at = str(folder.with_name("unpacked"))
    found: dict[str, Any] = examine(
        lambda said: None, source=source, weights=str(path), folder=at, dataset=dataset, digits=digits
    )
    return found


def test_a_folder_of_an_encoder_tells_what_it_is_without_data(teacher: Path) -> None:
    (teacher / "training_args.bin").write_bytes(b"\x80")
    found = look(teacher)
    assert found["facts"] == {
        "domain": "text_classification", "num_classes": 3, "class_names": list(NAMES), "max_length": 20,
        "vocab_size": 40,
    }  # fmt: skip
    assert len(found["sha256"]) == 64
    unpacked = {path.name for path in teacher.with_name("unpacked").iterdir()}
    assert unpacked == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_a_folder_of_timms_is_measured_on_images(teacher_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(teacher_folder)
    found = look(tmp_path / "mine", digits={"kind": "digits"})["facts"]
    assert (found["domain"], found["num_classes"], found["in_chans"]) == ("image_classification", 10, 1)
    assert found["selection_acc"] > 80


def without_classifier(folder: Path) -> None:
    stock("bert").bert.save_pretrained(folder)


def of_other_sizes(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({**state, "classifier.weight": torch.zeros(5, 16)}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda folder: None, "of the 12 selection texts; guessing reaches"),
        (lambda folder: write_tokenizer(folder, 60), "knows 60 tokens, the network has embeddings for 40"),
        (without_classifier, "fine-tune it on your texts first"),
        (of_other_sizes, "the weights do not fit config.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04"), "pickle"),
    ],
    ids=["untrained", "tokenizer", "no classifier", "sizes", "no tokenizer", "pickle"],
)
def test_an_encoder_that_is_no_teacher_is_refused(
    teacher: Path, texts: str, spoil: Callable[[Path], object], part: str
) -> None:
    spoil(teacher)
    with pytest.raises(ArchsearchError) as caught:
        look(teacher, texts)
    problem = caught.value.problem()
    assert (problem["code"], part in problem["detail"]) == ("invalid_teacher", True), problem
    assert str(teacher.parent) not in problem["detail"]


@pytest.mark.parametrize("lacking", ["transformers", "tokenizers"])
def test_a_worker_without_the_extra_says_how_to_install_it(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(InvalidRequest, match=r"not installed: pip install 'archsearch\[text\]'"):
        look(teacher)


def test_a_repository_without_data_is_of_the_domain_its_config_is_of(
    teacher: Path, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"texts": teacher, "images": teacher_folder}
    hub = HubOfFiles({f"me/{name}/{p.name}": p.read_bytes() for name, at in folders.items() for p in at.iterdir()})
    ask(hub, tmp_path / "cache", monkeypatch)
    try:
        for name, domain in (("texts", "text_classification"), ("images", "image_classification")):
            source = {"kind": "timm", "name": f"hf-hub:me/{name}"}
            nothing = {"weights": None, "folder": None, "dataset": None, "digits": None}
            assert examine(lambda said: None, source=source, **nothing)["facts"]["domain"] == domain
    finally:
        close_session()
        hub.close()
