"""Image classifiers of the transformers library: loaded strictly, in sight of losses, refused with what to do."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import torch
import transformers
from huggingface_hub.utils import close_session
from safetensors.torch import load_file, save_file

from archsearch import domains
from archsearch.data import Dataset
from archsearch.distill.watched import Watched, comparable
from archsearch.domains.image_classification.teacher import load
from archsearch.errors import TeacherError
from archsearch.hardware import measure_teacher
from archsearch.request import LocalTeacher, TimmTeacher
from archsearch.teachers import ImageTeacher, build, check_teacher
from archsearch.teachers.archive import describe_archive, to_send, unpack_archive
from tests.hub import HubOfFiles, ask
from tests.zoos.transformers.images import CONFIGS, stock, write_images_folder

X_BCHW = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def teacher_of(folder: Path, dataset: Dataset | None = None, **said: Any) -> ImageTeacher:
    return load(LocalTeacher(path=folder, **said), None, dataset)


SLOW = ("mobilenet_v2", "regnet", "dinov2")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in CONFIGS]
)
def test_a_folder_becomes_a_frozen_teacher(kind: str, tmp_path: Path) -> None:
    network = stock(kind)
    found = teacher_of(write_images_folder(tmp_path / "net", network))
    with torch.no_grad():
        wanted = network(pixel_values=(X_BCHW - 0.25) / 0.5).logits
    torch.testing.assert_close(found.logits(X_BCHW), wanted)
    assert (found.num_classes, found.in_chans, found.mean, found.std) == (10, 1, (0.25,), (0.5,))
    assert (found.input_hw, found.namings, found.notes) == ((8, 8), (), ())
    assert not any(weight.requires_grad for weight in found.model.parameters())
    watched = Watched(found.model, comparable(found.model, found.model)[0], {"stages", "embedding", "head"})
    outputs = watched.outputs(found.logits(X_BCHW))
    assert len(outputs.maps) >= 1
    assert outputs.embedding_BD is not None
    assert outputs.weight_KD is not None
    head: Any = found.model.get_classifier()
    torch.testing.assert_close(outputs.embedding_BD @ outputs.weight_KD.T + head.bias, outputs.answers_MK)


def test_its_costs_are_counted(digits: Dataset, tmp_path: Path) -> None:
    network = stock("vit")
    cost = measure_teacher(teacher_of(write_images_folder(tmp_path / "net", network)), digits.task)
    assert cost.params == sum(weight.numel() for weight in network.parameters())
    assert cost.macs > 16 * 2 * 4 * 16 * 16  # sixteen tokens, two layers, four projections


def test_its_classes_are_put_in_the_datas_order(digits: Dataset, tmp_path: Path) -> None:
    names = {k: str(9 - k) for k in range(10)}
    network = stock("vit", id2label=names, label2id={name: k for k, name in names.items()})
    found = teacher_of(write_images_folder(tmp_path / "net", network), digits)
    with torch.no_grad():
        wanted = network(pixel_values=(X_BCHW - 0.25) / 0.5).logits.flip(1)
    torch.testing.assert_close(found.logits(X_BCHW), wanted)
    assert [note.code for note in found.notes] == ["classes_reordered"]


def test_a_bare_network_gets_a_head(digits: Dataset, tmp_path: Path) -> None:
    bare = transformers.ViTModel(stock("vit").config)
    folder = write_images_folder(tmp_path / "net", bare)
    with pytest.raises(TeacherError, match="has no classifier; have a head fitted"):
        teacher_of(folder, digits)
    found, again = (teacher_of(folder, digits, head="probe") for _ in range(2))
    assert (found.num_classes, found.identity) == (10, again.identity)
    assert check_teacher(found, digits).measured > 50  # random features of digits tell much


def test_stages_are_the_counterparts_of_a_students(tmp_path: Path) -> None:
    student = build("cifar_resnet", {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 8, 8]})
    found = teacher_of(write_images_folder(tmp_path / "net", stock("vit")))
    assert comparable(student, found.model)[1] == ("network.vit.layers.0", "network.vit.layers.1")
    watched = Watched(found.model, ("network.vit.layers.1",), {"stages"})
    found.logits(X_BCHW)
    assert watched.outputs(X_BCHW).maps[0].shape == (3, 16, 4, 4)  # the class token is none of the grid's


@pytest.mark.parametrize(
    ("shown", "mean", "std", "size"),
    [
        ({"do_normalize": False}, 0.0, 1.0, (8, 8)),
        ({"rescale_factor": 1 / 127.5}, 0.125, 0.25, (8, 8)),
        ({"do_rescale": False, "image_mean": [127.5], "image_std": [51.0]}, 0.5, 0.2, (8, 8)),
        ({"size": {"shortest_edge": 12}, "do_center_crop": True, "crop_size": 8}, 0.25, 0.5, (8, 8)),
        ({"size": 8}, 0.25, 0.5, (8, 8)),
    ],
)
def test_pixels_are_shown_as_the_librarys_processor_would(
    shown: dict[str, Any], mean: float, std: float, size: tuple[int, int], tmp_path: Path
) -> None:
    found = teacher_of(write_images_folder(tmp_path / "net", stock("vit"), **shown))
    assert (found.mean[0], found.std[0], found.input_hw) == (pytest.approx(mean), pytest.approx(std), size)


def test_a_folder_that_says_nothing_of_pixels_is_told_of(tmp_path: Path) -> None:
    folder = write_images_folder(tmp_path / "net", stock("vit"))
    (folder / "preprocessor_config.json").unlink()
    (note,) = teacher_of(folder).notes
    assert note.code == "teacher_normalisation"
    assert "has no preprocessor_config.json" in note.detail


def _config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _shown(folder: Path, **fields: Any) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _without(folder: Path, part: str) -> None:
    path = folder / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if part not in name}, path)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: _config(folder, auto_map={"AutoModel": "code.Net"}), "names code of its own"),
        (lambda folder: _config(folder, num_hidden_layers=10**6), "num_hidden_layers: a whole number of 1 to 256"),
        (lambda folder: _config(folder, num_hidden_layers=3), "the weights do not fit config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text("{"),
            "preprocessor_config.json cannot be read",
        ),
        (lambda folder: _without(folder, "layer.1."), "is missing"),
        (lambda folder: _shown(folder, rescale_factor="1/255"), "rescale_factor: a number above 0"),
        (lambda folder: _shown(folder, image_mean="0.5"), "image_mean: a list of numbers"),
        (lambda folder: _shown(folder, size={"height": 0, "width": 8}), "size: a whole number"),
        (lambda folder: _config(folder, num_hidden_layers="two"), "the weights do not fit config.json"),
    ],
)
def test_what_is_no_such_network_is_refused(break_it: Any, says: str, tmp_path: Path) -> None:
    folder = write_images_folder(tmp_path / "net", stock("vit"))
    break_it(folder)
    with pytest.raises(TeacherError) as caught:
        teacher_of(folder)
    assert says in caught.value.detail
    assert caught.value.field == "teacher.path"


def test_a_size_it_is_not_built_for_is_named(tmp_path: Path) -> None:
    folder = write_images_folder(tmp_path / "net", stock("vit"))
    with pytest.raises(TeacherError) as caught:
        teacher_of(folder, input_size=16)
    assert (caught.value.field, "16×16 pixels" in caught.value.detail) == ("teacher.input_size", True)


def test_a_zip_of_it_is_told_of_without_torch(tmp_path: Path) -> None:
    folder = write_images_folder(tmp_path / "net", stock("vit"))
    assert to_send(folder) == ({}, folder)
    from archsearch.data.pack import pack

    path = pack(folder, tmp_path / "net.zip", domains.teacher_files())
    told = describe_archive(path, field="upload")
    assert told == {"domain": "image_classification", "architecture": "vit", "in_chans": 1, "num_classes": 10}
    unpack_archive(path, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "preprocessor_config.json").is_file()


def test_a_repository_on_the_hub_is_fetched_with_what_is_read_and_no_more(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_images_folder(tmp_path / "net", stock("vit"))
    (folder / "pytorch_model.bin").write_bytes(b"never asked for")
    hub = HubOfFiles({f"me/vit/{path.name}": path.read_bytes() for path in folder.iterdir()})
    ask(hub, tmp_path / "cache", monkeypatch)
    try:
        found = load(TimmTeacher(name="hf-hub:me/vit"), None, digits)
        assert (found.name, found.sha256) == ("hf-hub:me/vit", teacher_of(folder).sha256)
        assert (found.mean, found.std) == ((0.25,), (0.5,))
        fetched = {path.name for path in (tmp_path / "cache").glob("models--me--vit/snapshots/*/*")}
        assert fetched == {"config.json", "model.safetensors", "preprocessor_config.json"}
        domains.get("image_classification").fetch("hf-hub:me/vit")
    finally:
        close_session()
        hub.close()
