"""Where networks with weights come from: the hub's cache and a folder; nothing is asked of a hub that need not be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm

from archsearch.data import Dataset
from archsearch.errors import TeacherError, Unavailable
from archsearch.pretrained import at_hand, find, make_ready, none_registered
from archsearch.pretrained.stored import in_cache, in_folder
from archsearch.request import SearchSpec, StockNetwork
from archsearch.teachers import Teacher
from tests.hub import HubOfFiles, ask

NAME = "test_resnet.r160_in1k"
REVISION = "5" * 40


@pytest.fixture(scope="module")
def weights() -> bytes:
    """What the hub has of one of timm's networks, but that nobody trained it."""
    from safetensors.torch import save

    return save({name: value.contiguous() for name, value in timm.create_model(NAME).state_dict().items()})


@pytest.fixture
def cache(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with that network, one whose download was cut short, and one of no architecture known."""
    for name, files in (
        (NAME, {"model.safetensors": weights}),
        ("resnet18.a1_in1k", {}),
        ("resnet19.a1_in1k", {"model.safetensors": weights}),
    ):
        folder = tmp_path / "cache" / f"models--timm--{name}"
        (folder / "snapshots" / REVISION).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(REVISION)
        for file, content in files.items():
            (folder / "snapshots" / REVISION / file).write_bytes(content)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_the_hub_has_sent_before_is_at_hand_and_needs_no_hub(
    cache: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubOfFiles({}, "silent")
    try:
        ask(hub, cache, monkeypatch)
        (one,) = in_cache()
        assert (one.label, one.source) == (NAME, NAME)
        assert find([StockNetwork(name=NAME)], None, none_registered) == [one]
        shelf = make_ready(at_hand(None), teacher, few_digits, cache=tmp_path)
        facts = shelf.members[0].facts
        assert (facts.architecture, facts.stock, facts.input_size) == ("test_resnet", True, (3, 160, 160))
        model = shelf.space().begin({"network": 0}, few_digits.task)
        kept = timm.create_model("test_resnet", num_classes=10, in_chans=1).state_dict()
        assert {name: value.shape for name, value in model.state_dict().items()} == {
            name: value.shape for name, value in kept.items()
        }
        assert hub.asked == 0
    finally:
        hub.close()


def test_a_network_that_is_named_is_fetched(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HubOfFiles({f"timm/{NAME}/model.safetensors": weights})
    try:
        ask(hub, tmp_path / "cache", monkeypatch)
        (one,) = find([StockNetwork(name=NAME)], None, none_registered)
        assert one.weights.read_bytes() == weights
        assert [each.label for each in in_cache()] == [NAME]
        with pytest.raises(TeacherError) as caught:
            find([StockNetwork(name="test_resnet.nobody")], None, none_registered)
        assert caught.value.field == "search.pretrained.0"
        hub.mood = "503"
        with pytest.raises(Unavailable):
            find([StockNetwork(name="test_vit.r160_in1k")], None, none_registered)
    finally:
        hub.close()


def test_a_folder_that_is_none_holds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert in_folder(None) == []
    assert in_folder(tmp_path / "nowhere") == []
    assert "is no folder" in caplog.text


def test_networks_are_named_by_a_word_or_as_objects() -> None:
    words = SearchSpec.model_validate({"pretrained": ["resnet18.a1_in1k", "folder:mine", "tch_0123456789"]})
    objects = [
        {"kind": "timm", "name": "resnet18.a1_in1k"},
        {"kind": "folder", "name": "mine"},
        {"kind": "teacher", "id": "tch_0123456789"},
    ]
    assert words == SearchSpec.model_validate({"pretrained": objects})
    assert words.model_dump(mode="json")["pretrained"] == objects
    assert [one.label for one in words.pretrained or ()] == ["resnet18.a1_in1k", "folder:mine", "tch_0123456789"]


def test_lists_and_checks_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from archsearch.domains.images.sizes import sized; from "
        "archsearch.pretrained import at_hand, check_named; from archsearch.pretrained.listing import listed; from "
        "archsearch.request import SearchSpec; "
        "check_named(SearchSpec(pretrained=['resnet18.a1_in1k']).pretrained, None);"
        f" listed(at_hand(Path({str(tmp_path)!r})), sized(10, 3, 32, 32), Path({str(tmp_path)!r})); "
        "assert not {'torch', 'timm'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
