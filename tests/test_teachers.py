from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from archsearch.data import Dataset, Split
from archsearch.data.metrics import mean_average_precision
from archsearch.errors import ArchsearchError, InvalidRequest, TeacherError, UnknownName
from archsearch.request import LocalTeacher, TimmTeacher, UploadedTeacher
from archsearch.teachers import (
    Teacher,
    build,
    check_source,
    check_teacher,
    check_weights_file,
    describe_folder,
    fingerprint,
    load_teacher,
)

# B batch, C channels, H W space, K classes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def source(teacher_folder: Path) -> UploadedTeacher:
    return UploadedTeacher.model_validate({"upload": "up_0123456789", **describe_folder(teacher_folder)})


@pytest.fixture
def weights(teacher_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(teacher_folder / "model.safetensors")


def refused(source: Any, path: Path | None = None) -> ArchsearchError:
    with pytest.raises(ArchsearchError) as caught:
        load_teacher(source, path)
    return caught.value


class Bomb:
    """Pickled, it leaves a file behind whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


# ------------------------------------------------------------------------------------------------ loading


def test_a_folder_comes_back_as_the_teacher_it_was(teacher: Teacher, teacher_folder: Path, digits: Dataset) -> None:
    config = json.loads((teacher_folder / "config.json").read_text())["pretrained_cfg"]
    assert (teacher.num_classes, teacher.in_chans, teacher.input_hw) == (10, 1, (8, 8))
    assert [list(teacher.mean), list(teacher.std)] == [config["mean"], config["std"]]
    assert list(teacher.mean) == list(digits.task.mean)
    saved = load_file(teacher_folder / "model.safetensors")
    assert all(value.equal(saved[name]) for name, value in teacher.model.state_dict().items())


def test_a_teacher_is_frozen_and_in_eval_mode(teacher: Teacher) -> None:
    assert not any(module.training for module in teacher.model.modules())
    assert not any(p.requires_grad for p in teacher.model.parameters())


def test_an_upload_is_the_same_teacher_as_its_folder(
    source: UploadedTeacher, teacher: Teacher, teacher_folder: Path, digits: Dataset
) -> None:
    uploaded = load_teacher(source, teacher_folder / "model.safetensors")
    assert uploaded.sha256 == teacher.sha256 == fingerprint(teacher.model)
    x_BCHW = digits.test.images()[:8].float() / 255
    assert uploaded.logits(x_BCHW).equal(teacher.logits(x_BCHW))


def test_the_fingerprint_follows_every_weight(source: UploadedTeacher, weights: dict, tmp_path: Path) -> None:
    before = fingerprint(build(source.architecture, source.model_args | {"num_classes": 10, "in_chans": 1}))
    weights["layer1.0.bn1.running_mean"][0] += 1e-6
    save_file(weights, tmp_path / "w.safetensors")
    nudged = load_teacher(source, tmp_path / "w.safetensors").sha256
    assert len({before, nudged, load_teacher(source, tmp_path / "w.safetensors").sha256}) == 2


def test_images_of_another_size_are_resized_and_normalised(teacher: Teacher) -> None:
    x_BCHW = torch.full((2, 1, 16, 16), 0.75)
    expected = (0.75 - teacher.mean[0]) / teacher.std[0]
    prepared_BCHW = teacher.prepare(x_BCHW)
    torch.testing.assert_close(prepared_BCHW, torch.full((2, 1, 8, 8), expected))
    as_it_is = dataclasses.replace(teacher, input_hw=None)
    assert as_it_is.prepare(x_BCHW).shape == (2, 1, 16, 16)


# ------------------------------------------------------------------------------------------- broken weights


def test_missing_superfluous_and_misshapen_tensors_are_named(
    source: UploadedTeacher, weights: dict, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    del weights["conv1.weight"]
    weights["extra.weight"] = torch.zeros(1)
    weights["fc.bias"] = torch.zeros(11)
    save_file(weights, path)
    error = refused(source, path)
    assert (type(error), error.field) == (TeacherError, "upload")
    assert "conv1.weight is missing" in error.detail
    assert "extra.weight is not part of it" in error.detail
    assert "fc.bias is (11,) instead of (10,)" in error.detail


def test_many_wrong_tensors_are_counted(source: UploadedTeacher, tmp_path: Path) -> None:
    save_file({"nothing": torch.zeros(1)}, tmp_path / "w.safetensors")
    assert " more" in refused(source, tmp_path / "w.safetensors").detail


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_are_refused_unread_with_the_fix(
    source: UploadedTeacher, weights: dict, tmp_path: Path, zipped: bool
) -> None:
    path, trap = tmp_path / "weights.pth", tmp_path / "sprung"
    if zipped:
        torch.save({**weights, "bomb": Bomb(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"bomb": Bomb(trap)}))
    error = refused(source, path)
    assert (type(error), error.field) == (TeacherError, "upload")
    assert "safetensors.torch.save_file" in error.detail
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_file_cut_short_is_refused(source: UploadedTeacher, teacher_folder: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes((teacher_folder / "model.safetensors").read_bytes()[:keep])
    error = refused(source, path)
    assert type(error) is TeacherError
    assert "not a whole safetensors file" in error.detail


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(TeacherError, match="holds no tensors"):
        check_weights_file(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(
    source: UploadedTeacher, weights: dict, tmp_path: Path, value: float
) -> None:
    weights["fc.weight"][3, 3] = value
    save_file(weights, tmp_path / "w.safetensors")
    assert "not finite in fc.weight" in refused(source, tmp_path / "w.safetensors").detail


# ----------------------------------------------------------------------------------- what a client may ask for


@pytest.mark.parametrize(
    "args",
    [
        {"checkpoint_path": "x"},
        {"pretrained": True},
        {"pretrained_cfg": "x"},
        {"pretrained_cfg_overlay": "x"},
        {"cache_dir": "x"},
        {"features_only": True},
        {"num_classes": 3},
        {"in_chans": 3},
        {"norm_layer": "/etc/passwd"},
        {"depths": [1, "a/b"]},
        {"depths": [10**6]},
        {"depths": list(range(65))},
        {"drop_rate": float("inf")},
        {"drop_rate": float("nan")},
        {"block": {"a": 1}},
        {"block": None},
        {"act_layer": "x" * 65},
    ],
    ids=str,
)
def test_arguments_that_are_not_sizes_are_refused(source: UploadedTeacher, args: dict[str, Any]) -> None:
    (name,) = args
    with pytest.raises(InvalidRequest) as caught:
        check_source(source.model_copy(update={"model_args": args}))
    assert caught.value.field == f"source.model_args.{name}"
    assert type(refused(source.model_copy(update={"model_args": args}), ROOT / "README.md")) is InvalidRequest


def test_sizes_words_and_switches_are_welcome(source: UploadedTeacher) -> None:
    args = {"depths": [1, 2], "act_layer": "gelu", "qkv_bias": True, "drop_rate": 0.1, "nested": [[1], [2]]}
    check_source(source.model_copy(update={"model_args": args}))


@pytest.mark.parametrize("name", ["local-dir:/etc", "local_dir:/etc", "file:/etc/passwd", "https://example.org/a"])
def test_a_client_names_no_path(source: UploadedTeacher, name: str) -> None:
    uploaded = source.model_copy(update={"architecture": name})
    for asked, field in ((TimmTeacher(name=name), "source.name"), (uploaded, "source.architecture")):
        with pytest.raises(InvalidRequest, match="no timm model a client may ask for") as caught:
            check_source(asked)
        assert caught.value.field == field
    assert type(refused(TimmTeacher(name=name))) is InvalidRequest
    with pytest.raises(InvalidRequest):  # weights are uploaded; the hub is no architecture
        check_source(source.model_copy(update={"architecture": "hf-hub:a/b"}))


def test_an_unknown_timm_name_suggests_the_nearest(source: UploadedTeacher, teacher_folder: Path) -> None:
    error = refused(TimmTeacher(name="resnet_18"))
    assert (type(error), error.field) == (UnknownName, "teacher.name")
    assert "did you mean 'resnet18'?" in error.detail
    upload = source.model_copy(update={"architecture": "cifar_resnt"})
    error = refused(upload, teacher_folder / "model.safetensors")
    assert (type(error), error.field) == (UnknownName, "architecture")
    assert "did you mean 'cifar_resnet'?" in error.detail


def test_a_timm_name_without_weights_is_a_teacher_error() -> None:
    error = refused(TimmTeacher(name="cifar_resnet"))
    assert (type(error), error.field) == (TeacherError, "teacher.name")


@pytest.mark.parametrize(
    "args", [{"colour": "red"}, {"depths": [0, 1, 1]}, {"depths": "many"}, {"widths": [8]}], ids=str
)
def test_arguments_timm_cannot_build_with_are_the_clients_error(
    source: UploadedTeacher, teacher_folder: Path, args: dict[str, Any]
) -> None:
    error = refused(source.model_copy(update={"model_args": args}), teacher_folder / "model.safetensors")
    assert (type(error), error.field) == (TeacherError, "model_args")


def test_a_folder_needs_both_its_files(teacher_folder: Path, tmp_path: Path) -> None:
    shutil.copy(teacher_folder / "config.json", tmp_path)
    error = refused(LocalTeacher(path=tmp_path))
    assert (type(error), error.field) == (TeacherError, "teacher.path")
    assert "needs config.json and model.safetensors" in error.detail
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    assert type(refused(LocalTeacher(path=tmp_path))) is TeacherError


def test_a_folders_config_describes_the_upload(teacher_folder: Path, tmp_path: Path) -> None:
    described = describe_folder(teacher_folder)
    assert described["architecture"] == "cifar_resnet"
    assert (described["num_classes"], described["in_chans"], described["input_size"]) == (10, 1, 8)
    assert described["model_args"]["widths"] == [16, 24, 32]
    for content in ("{}", "not json", '{"pretrained_cfg": {"input_size": 3}, "num_classes": 2}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(TeacherError, match="not timm's"):
            describe_folder(tmp_path)


# -------------------------------------------------------------------------------------- teacher against data


def test_a_good_teachers_accuracy_is_measured(teacher: Teacher, digits: Dataset) -> None:
    assert 80 < check_teacher(teacher, digits) <= 100


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"classes": 7}, "tells 10 classes apart, the data has 7"),
        ({"in_chans": 3}, "expects 1 channels, the data has 3"),
    ],
)
def test_a_teacher_for_other_data_is_refused(
    teacher: Teacher, digits: Dataset, change: dict[str, int], detail: str
) -> None:
    other = dataclasses.replace(digits, task=dataclasses.replace(digits.task, **change))
    with pytest.raises(TeacherError, match=detail) as caught:
        check_teacher(teacher, other)
    assert caught.value.field == "teacher"


def test_a_teacher_that_only_guesses_is_refused(source: UploadedTeacher, digits: Dataset) -> None:
    torch.manual_seed(0)
    untrained = build(source.architecture, source.model_args | {"num_classes": 10, "in_chans": 1}).eval()
    guessing = Teacher("untrained", untrained, 10, 1, (0.5,), (0.5,), None, "")
    with pytest.raises(TeacherError, match="guessing reaches"):
        check_teacher(guessing, digits)


def test_knowing_only_the_largest_class_is_guessing(teacher: Teacher, digits: Dataset) -> None:
    """On 95 % zeros, answering zero always is right in 95 %, and no knowledge."""

    class Zero(torch.nn.Module):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[torch.zeros(len(x_BCHW), dtype=torch.int64)]

    y_N = digits.selection.y_N.copy()
    y_N[: int(0.95 * len(y_N))] = 0
    skewed = dataclasses.replace(digits, selection=Split(digits.selection.x_NHWC, y_N))
    with pytest.raises(TeacherError, match=r"is right on 9\d\.\d %"):
        check_teacher(dataclasses.replace(teacher, model=Zero()), skewed)


def ridge(dataset: Dataset) -> torch.nn.Module:
    """A linear classifier of pixels, as good as least squares makes it; logits in the order of the labels."""
    x_ND = dataset.train.images().flatten(1).float() / 255
    y_NK = dataset.train.labels() - dataset.train.labels().mean(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x_ND.shape[1], y_NK.shape[1]))
    weight_DK = torch.linalg.solve(x_ND.T @ x_ND + torch.eye(x_ND.shape[1]), x_ND.T @ y_NK)
    model[1].weight.data, model[1].bias.data = weight_DK.T, torch.zeros(y_NK.shape[1])
    return model.eval().requires_grad_(False)


def teacher_of(model: torch.nn.Module) -> Teacher:
    return Teacher("pairs", model, 10, 1, (0.0,), (1.0,), None, "")


def test_with_many_labels_a_good_teachers_map_is_measured(pairs: Dataset) -> None:
    teacher = teacher_of(ridge(pairs))
    found = check_teacher(teacher, pairs)
    assert found == mean_average_precision(teacher.logits, pairs.selection)
    assert 85 < found < 100


def test_with_many_labels_a_weak_teacher_is_still_one(pairs: Dataset) -> None:
    """It learned from twenty images."""
    few = dataclasses.replace(pairs, train=pairs.train.take(slice(0, 20)))
    assert 40 < check_teacher(teacher_of(ridge(few)), pairs) < 70


@pytest.mark.parametrize("turn", [1, 5])
def test_with_many_labels_a_teacher_of_another_order_is_refused(pairs: Dataset, turn: int) -> None:
    model = ridge(pairs)
    model[1].weight.data = model[1].weight.data.roll(turn, 0)
    with pytest.raises(
        TeacherError, match=r"mAP of 1\d\.\d %; guessing reaches 19\.\d %.*order of the classes"
    ) as caught:
        check_teacher(teacher_of(model), pairs)
    assert caught.value.field == "teacher"


def test_with_many_labels_the_same_answer_to_everything_is_guessing(pairs: Dataset) -> None:
    """It ranks no image before another, however well it knows how often each label comes."""
    model = ridge(pairs)
    model[1].weight.data, model[1].bias.data = torch.zeros(10, 128), torch.tensor(pairs.task.prevalence).logit()
    with pytest.raises(TeacherError, match=r"mAP of 19\.0 %; guessing reaches 19\.0 %"):
        check_teacher(teacher_of(model), pairs)


def test_with_many_labels_untrained_networks_are_refused(pairs: Dataset) -> None:
    """They see brightness and strokes, and rank by those better or worse than chance, but not in the labels' order."""
    for seed in range(4):
        torch.manual_seed(seed)
        args = {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 12, 16]}
        with pytest.raises(TeacherError, match="guessing reaches"):
            check_teacher(teacher_of(build("cifar_resnet", args).eval()), pairs)


def test_with_labels_that_nearly_always_come_together_a_good_teacher_is_one(pairs: Dataset) -> None:
    """Read in the wrong order its answers are nearly as good, which says nothing against it."""

    def alike(split: Split) -> Split:
        small = split.y_N[:, :5].any(axis=1)
        return Split(split.x_NHWC, np.stack([small, small | split.y_N[:, 5] > 0], axis=1).astype(np.uint8))

    few = alike(pairs.selection.take(slice(0, 60)))
    dataset = dataclasses.replace(
        pairs, task=dataclasses.replace(pairs.task, classes=2), train=alike(pairs.train), selection=few
    )
    teacher = dataclasses.replace(teacher_of(ridge(dataset)), num_classes=2)
    assert check_teacher(teacher, dataset) > 90


def test_a_teacher_that_needs_another_resolution_says_so(digits: Dataset) -> None:
    vit = build("vit_tiny_patch16_224", {"num_classes": 10, "in_chans": 1, "img_size": 16, "depth": 1}).eval()
    asks = Teacher("vit", vit, 10, 1, (0.5,), (0.5,), None, "")
    with pytest.raises(TeacherError, match=r"8×8 images.*set input_size"):
        check_teacher(asks, digits)


# ---------------------------------------------------------------------------------------------- hf-hub:


HUB = """
import json, sys
from archsearch.errors import ArchsearchError
from archsearch.request import TimmTeacher
from archsearch.teachers import load_teacher

answers = {}
for name in sys.argv[1:]:
    try:
        answers[name] = load_teacher(TimmTeacher(name=name)).sha256
    except ArchsearchError as error:
        answers[name] = [type(error).__name__, str(error)]
print(json.dumps(answers))
"""


def cached_repository(cache: Path, name: str, files: dict[str, bytes], revision: str = "5" * 40) -> None:
    """A repository as the hub's own client leaves it in its cache."""
    folder = cache / f"models--me--{name}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    for file, content in files.items():
        (snapshot / file).write_bytes(content)


@pytest.fixture(scope="module")
def hub(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `load_teacher` says to each of several repositories, in a process whose hub is a folder."""
    cache = tmp_path_factory.mktemp("hub")
    config = (teacher_folder / "config.json").read_bytes()
    weights = (teacher_folder / "model.safetensors").read_bytes()
    trap = cache / "sprung"
    torch.save({"bomb": Bomb(trap)}, cache / "bomb")
    bomb = (cache / "bomb").read_bytes()
    detour = json.loads(config)
    detour["pretrained_cfg"]["hf_hub_filename"] = "evil.bin"
    cached_repository(cache, "good", {"config.json": config, "model.safetensors": weights})
    cached_repository(cache, "pickled", {"config.json": config, "pytorch_model.bin": bomb})
    both = {"config.json": json.dumps(detour).encode(), "model.safetensors": weights, "evil.bin": bomb}
    cached_repository(cache, "detour", both)
    names = ["hf-hub:me/good", f"hf-hub:me/good@{'5' * 40}", "hf-hub:me/pickled", "hf-hub:me/detour", "hf-hub:me/none"]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", HUB, *names]
    answer = subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not trap.exists()
    return json.loads(answer.stdout)


def test_a_hub_repository_with_safetensors_loads(hub: dict[str, Any], teacher: Teacher) -> None:
    assert hub["hf-hub:me/good"] == teacher.sha256
    assert hub[f"hf-hub:me/good@{'5' * 40}"] == teacher.sha256


def test_a_hub_repository_with_only_pickled_weights_is_refused(hub: dict[str, Any]) -> None:
    kind, detail = hub["hf-hub:me/pickled"]
    assert kind == "TeacherError"
    assert "no model.safetensors to be had" in detail


def test_a_hub_repository_that_points_past_its_safetensors_is_refused(hub: dict[str, Any]) -> None:
    kind, detail = hub["hf-hub:me/detour"]
    assert kind == "TeacherError"
    assert "hf_hub_filename; only model.safetensors is read" in detail


def test_a_repository_that_is_not_there_is_a_teacher_error(hub: dict[str, Any]) -> None:
    assert hub["hf-hub:me/none"][0] == "TeacherError"


def test_the_same_weights_with_other_heads_are_another_teacher() -> None:
    """A transformer's weights do not tell into how many heads they are cut."""

    def teacher(heads: int) -> Teacher:
        args = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": heads, "num_classes": 3}
        torch.manual_seed(0)
        model = build("vit_tiny_patch16_224", args)
        return Teacher("t", model, 3, 3, (0.5,) * 3, (0.5,) * 3, (16, 16), fingerprint(model))

    assert teacher(2).sha256 == teacher(3).sha256
    assert teacher(2).identity != teacher(3).identity
    assert teacher(2).identity == teacher(2).identity
