"""A checkpoint as trainers leave it becomes a teacher, and computes what it computed."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

import archsearch
from archsearch import convert_teacher
from archsearch.cli import app
from archsearch.errors import ArchsearchError, Conflict, InvalidRequest, TeacherError, UnknownName
from archsearch.models import CifarResNet
from archsearch.outfolder import owned
from archsearch.request import LocalTeacher
from archsearch.teachers import index, load_teacher

# B batch, C channels, H W space, K classes

torchvision = pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return CifarResNet((1, 2, 1), (8, 12, 16), num_classes=7, in_chans=1).eval()


@pytest.fixture(scope="module")
def weights(small: nn.Module) -> dict[str, torch.Tensor]:
    return dict(small.state_dict())


@pytest.fixture(scope="module")
def x_BCHW() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def saved(what: Any, folder: Path, name: str = "net.pth") -> Path:
    torch.save(what, folder / name)
    return folder / name


def refused(file: Path, out: Path, **options: Any) -> ArchsearchError:
    with pytest.raises(ArchsearchError) as caught:
        convert_teacher(file, out, **options)
    assert not out.exists()
    return caught.value


def prefixed(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {f"{prefix}{name}": value for name, value in weights.items()}


# ------------------------------------------------------------------------------------------------ architecture


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnext50_32x4d", "wide_resnet50_2", "densenet121")]


@pytest.mark.parametrize("name", ["resnet18", *SLOW])
def test_torchvisions_networks_are_found_and_compute_the_same(name: str, tmp_path: Path, x_BCHW: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(num_classes=10).eval()
    found = convert_teacher(saved(network.state_dict(), tmp_path), tmp_path / "teacher")
    assert (found.architecture, found.num_classes, found.in_chans, found.left_out) == (name, 10, 3, ())
    assert found.params == sum(weight.numel() for weight in network.parameters())
    torch.testing.assert_close(archsearch.load_student(tmp_path / "teacher")(x_BCHW), network(x_BCHW))


@pytest.mark.slow
def test_a_resnet_with_the_usual_stem_for_small_images_is_found(tmp_path: Path, x_BCHW: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5).eval()
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    network.fc = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 5)).eval()
    found = convert_teacher(saved(network.state_dict(), tmp_path), tmp_path / "teacher")
    assert (found.architecture, found.num_classes) == ("resnet_small", 5)
    assert "strides 1, 1, 2, 2, 2" in found.notes[0]
    torch.testing.assert_close(archsearch.load_student(tmp_path / "teacher")(x_BCHW), network(x_BCHW))


@pytest.mark.parametrize("stem", [16, 32])
def test_the_resnets_of_distillation_tables_are_found_with_their_depths(stem: int, tmp_path: Path) -> None:
    """Named as in RepDistiller's zoo, whose ×4 networks have a narrower stem than their first stage."""
    network = CifarResNet((1, 1, 1), (64, 128, 256) if stem == 32 else (16, 32, 64), num_classes=100, stem=stem)
    found = convert_teacher(saved({"model": network.state_dict(), "epoch": 240}, tmp_path), tmp_path / "teacher")
    assert (found.architecture, found.num_classes, found.key) == ("cifar_resnet", 100, "model")
    assert found.model_args["depths"] == [1, 1, 1]
    assert found.model_args.get("stem") == (32 if stem == 32 else None)


def test_other_words_for_the_same_layers_are_understood(weights: dict[str, Any], tmp_path: Path) -> None:
    """kuangliu/pytorch-cifar says shortcut and linear."""
    words = {
        name.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): value for name, value in weights.items()
    }
    assert convert_teacher(saved(words, tmp_path), tmp_path / "teacher").num_classes == 7


@pytest.mark.slow
def test_a_transformers_image_size_is_in_its_positions(tmp_path: Path) -> None:
    args = {"img_size": 64, "patch_size": 16, "num_classes": 3}
    network = timm.create_model("vit_tiny_patch16_224", **args).eval()
    found = convert_teacher(saved(network.state_dict(), tmp_path), tmp_path / "teacher")
    assert found.architecture == "vit_tiny_patch16_224"
    assert "deit_tiny_patch16_224" in found.same
    assert (found.model_args["img_size"], found.input_size) == (64, (64, 64))
    x_BCHW = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(archsearch.load_student(tmp_path / "teacher")(x_BCHW), network(x_BCHW))


def test_networks_that_compute_different_things_with_the_same_tensors_are_asked_about(tmp_path: Path) -> None:
    file = saved(timm.create_model("mobilenetv3_small_050", num_classes=4).state_dict(), tmp_path)
    file2 = saved(timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=4).state_dict(), tmp_path, "b.pth")
    assert convert_teacher(file, tmp_path / "a").architecture == "mobilenetv3_small_050"
    assert convert_teacher(file2, tmp_path / "b").architecture == "tf_mobilenetv3_small_minimal_100"
    asked = saved(timm.create_model("mobilenetv3_small_100", num_classes=4).state_dict(), tmp_path, "c.pth")
    error = refused(asked, tmp_path / "c")
    assert error.field == "architecture"
    assert "mobilenetv3_small_100, tf_mobilenetv3_small_100, which compute different things" in error.detail
    found = convert_teacher(asked, tmp_path / "c", architecture="tf_mobilenetv3_small_100")
    assert (found.architecture, found.num_classes) == ("tf_mobilenetv3_small_100", 4)


@pytest.mark.parametrize(
    ("theirs", "ours", "how"),
    [("regnet_y_400mf", "regnety_004", "translated by timm"), ("mobilenet_v2", "mobilenetv2_100", "in their order")],
)
def test_another_librarys_names_are_translated_where_the_architecture_is_named(
    theirs: str, ours: str, how: str, tmp_path: Path, x_BCHW: torch.Tensor
) -> None:
    torch.manual_seed(0)
    network = getattr(torchvision.models, theirs)(num_classes=10).eval()
    file = saved(network.state_dict(), tmp_path)
    found = convert_teacher(file, tmp_path / "teacher", architecture=ours)
    assert how in found.notes[0]
    torch.testing.assert_close(archsearch.load_student(tmp_path / "teacher")(x_BCHW), network(x_BCHW))


@pytest.mark.slow
def test_what_order_does_not_tell_of_torchvisions_networks_is_known(tmp_path: Path, x_BCHW: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = torchvision.models.efficientnet_v2_s(num_classes=10).eval()
    file = saved(network.state_dict(), tmp_path)
    found = convert_teacher(file, tmp_path / "teacher", architecture="efficientnetv2_s")
    assert found.model_args == {"bn_eps": 1e-3}
    torch.testing.assert_close(archsearch.load_student(tmp_path / "teacher")(x_BCHW), network(x_BCHW))


def test_a_network_that_pads_otherwise_is_not_taken_for_its_tensors(tmp_path: Path) -> None:
    file = saved(torchvision.models.efficientnet_b0(num_classes=10).state_dict(), tmp_path)
    error = refused(file, tmp_path / "teacher", architecture="tf_efficientnet_b0")
    assert "called as those of a network that pads as efficientnet_b0 does; name that" in error.detail
    weights = timm.create_model("efficientnet_b0", num_classes=10).state_dict()
    other = {f"_{name}": value for name, value in weights.items()}
    error = refused(saved(other, tmp_path, "b.pth"), tmp_path / "teacher", architecture="efficientnet_b0")
    assert "pads as tf_efficientnet_b0 does" in error.detail


@pytest.mark.slow
def test_torchvisions_regnets_are_told_by_their_names(tmp_path: Path) -> None:
    file = saved(torchvision.models.regnet_x_400mf(num_classes=10).state_dict(), tmp_path)
    assert "called as torchvision's RegNets" in refused(file, tmp_path / "teacher").detail
    error = refused(file, tmp_path / "teacher", architecture="regnetx_004")
    assert "torchvision's is regnetx_004_tv" in error.detail
    assert convert_teacher(file, tmp_path / "teacher", architecture="regnetx_004_tv").num_classes == 10


def test_the_name_to_give_is_told_where_only_the_order_of_tensors_tells(tmp_path: Path) -> None:
    file = saved(torchvision.models.mobilenet_v2(num_classes=10).state_dict(), tmp_path)
    assert "say so with --architecture, e.g. mobilenetv2_100" in refused(file, tmp_path / "teacher").detail


def test_the_nearest_architecture_is_named_with_what_differs(tmp_path: Path) -> None:
    weights = torchvision.models.resnet18(num_classes=10).state_dict()
    weights["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    weights["layer4.1.extra"] = torch.zeros(3)
    error = refused(saved(weights, tmp_path), tmp_path / "teacher")
    assert type(error) is TeacherError
    assert "nearest to resnet18, but layer1.0.conv1.weight is (64, 64, 5, 5) instead of (64, 64, 3, 3)" in error.detail
    error = refused(tmp_path / "net.pth", tmp_path / "teacher", architecture="resnet34")
    assert "the weights are not resnet34's: layer1.0.conv1.weight is" in error.detail
    error = refused(tmp_path / "net.pth", tmp_path / "teacher", architecture="resnet_18")
    assert isinstance(error, UnknownName)
    assert "did you mean 'resnet18'?" in error.detail


def test_tensors_of_nothing_known_are_said_to_be_so(tmp_path: Path) -> None:
    error = refused(saved({"a.weight": torch.zeros(3), "b": torch.zeros(2)}, tmp_path), tmp_path / "teacher")
    assert "the 2 tensors of net.pth (a.weight, b, …) are no timm architecture's" in error.detail


def test_the_index_is_of_the_timm_that_is_installed() -> None:
    """`python -m archsearch.teachers.index` writes it again."""
    kept = json.loads(index._FILE.read_text())
    if kept["timm"] != timm.__version__:
        pytest.skip(f"timm {timm.__version__} is not the index's {kept['timm']}")
    names = ["resnet26", "mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto"]
    again = index.make(names)
    for name in names:
        assert again["architectures"][name][1:] == kept["architectures"][name][1:]


# ---------------------------------------------------------------------------------------------------- wrapping


WRAPPED: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "bare": (lambda w: w, "", ""),
    "data parallel": (prefixed("module."), "", "module."),
    "compiled": (lambda w: {"state_dict": prefixed("model._orig_mod.")(w)}, "state_dict", "model._orig_mod."),
    "a trainer's": (
        lambda w: {"net": w, "optimizer": {"state": {0: {"m": torch.ones(2)}}}, "args": argparse.Namespace(lr=0.1)},
        "net",
        "",
    ),
    "with its average": (lambda w: {"epoch": 3, "state_dict_ema": w, "state_dict": w}, "state_dict", ""),
    "deep": (lambda w: {"checkpoint": {"student": {"backbone": w}}}, "checkpoint.student.backbone", ""),
    "profiled": (lambda w: {**w, "total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)}, "", ""),
    "beside a loss": (lambda w: {**prefixed("model.")(w), "loss.weight": torch.ones(7)}, "", "model."),
    "head beside backbone": (
        lambda w: {name if name.startswith("fc") else f"backbone.{name}": value for name, value in w.items()},
        "",
        "backbone.",
    ),
    "of an old torch": (lambda w: {n: v for n, v in w.items() if not n.endswith("num_batches_tracked")}, "", ""),
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_the_network_is_found_in_whatever_it_was_wrapped(
    how: str, small: nn.Module, weights: dict[str, Any], tmp_path: Path
) -> None:
    wrap, key, prefix = WRAPPED[how]
    found = convert_teacher(saved(wrap(weights), tmp_path), tmp_path / "teacher")
    assert (found.architecture, found.num_classes, found.in_chans) == ("cifar_resnet", 7, 1)
    assert found.model_args == {"depths": [1, 2, 1], "widths": [8, 12, 16]}
    assert (found.key, found.prefix) == (key, prefix)
    x_BCHW = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(load_teacher(LocalTeacher(path=tmp_path / "teacher")).model(x_BCHW), small(x_BCHW))


def test_of_several_networks_in_a_file_one_can_be_named(weights: dict[str, Any], tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in weights.items()}
    file = saved({"state_dict": weights, "state_dict_ema": other}, tmp_path)
    assert convert_teacher(file, tmp_path / "a").others == ("state_dict_ema",)
    convert_teacher(file, tmp_path / "b", key="state_dict_ema")
    assert archsearch.load_student(tmp_path / "b").state_dict()["fc.bias"].equal(other["fc.bias"])
    assert "it has 'state_dict', 'state_dict_ema'" in refused(file, tmp_path / "c", key="ema").detail


def test_what_is_left_out_is_told(weights: dict[str, Any], tmp_path: Path) -> None:
    file = saved({**prefixed("model.")(weights), "loss.weight": torch.ones(7)}, tmp_path)
    assert convert_teacher(file, tmp_path / "a").left_out == ("loss.weight",)


def test_safetensors_and_old_folders_of_timm_are_taken_too(weights: dict[str, Any], small, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "net.safetensors")
    assert convert_teacher(tmp_path / "net.safetensors", tmp_path / "a").num_classes == 7
    old = tmp_path / "old"
    old.mkdir()
    saved(weights, old, "pytorch_model.bin")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1], "std": [0.3], "input_size": [1, 20, 24]}
    (old / "config.json").write_text(json.dumps(config))
    found = convert_teacher(old, tmp_path / "b")
    assert (found.mean, found.std, found.input_size) == ((0.1,), (0.3,), (20, 24))


# ----------------------------------------------------------------------------------------- what is never run


class Bomb:
    """Pickled, it leaves a file behind whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_but_tensors_is_unpickled(zipped: bool, weights: dict[str, Any], tmp_path: Path) -> None:
    trap, file = tmp_path / "sprung", tmp_path / "net.pth"
    if zipped:
        torch.save({"state_dict": weights, "more": Bomb(trap)}, file)
    else:
        file.write_bytes(pickle.dumps({"more": Bomb(trap)}))
    error = refused(file, tmp_path / "teacher")
    assert (type(error), error.field) == (TeacherError, "file")
    assert "torch.save(model.state_dict(), 'weights.pth')" in error.detail
    assert not trap.exists()


def test_a_whole_model_is_refused_with_what_to_save(small: nn.Module, tmp_path: Path) -> None:
    error = refused(saved(small, tmp_path), tmp_path / "teacher")
    assert "holds archsearch.models.cifar_resnet.CifarResNet objects" in error.detail
    assert "save the tensors alone: torch.save(model.state_dict(), 'weights.pth')" in error.detail


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_program_of_torchs_is_refused_with_what_to_save(small: nn.Module, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(small, torch.rand(1, 1, 8, 8)), tmp_path / "net.pt")
    assert "TorchScript program" in refused(tmp_path / "net.pt", tmp_path / "teacher").detail
    program = torch.export.export(small, (torch.rand(1, 1, 8, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert "exported PyTorch program" in refused(tmp_path / "net.pt2", tmp_path / "teacher").detail


@pytest.mark.parametrize("keep", [0, 40, -100])
def test_a_checkpoint_cut_short_is_said_to_be_so(keep: int, weights: dict[str, Any], tmp_path: Path) -> None:
    file = saved(weights, tmp_path)
    file.write_bytes(file.read_bytes()[:keep])
    detail = refused(file, tmp_path / "teacher").detail
    assert "not a whole PyTorch checkpoint" in detail or "an empty file" in detail


# ----------------------------------------------------------------------------------------------------- options


def test_classes_normalisation_and_size_are_kept(weights: dict[str, Any], tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(7)]
    options = {"classes": names, "mean": [0.2], "std": [0.4], "input_size": (12, 16), "num_classes": 7}
    found = convert_teacher(saved(weights, tmp_path), tmp_path / "teacher", **options)
    assert found.notes == ()
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    assert config["label_names"] == names
    assert config["pretrained_cfg"]["input_size"] == [1, 12, 16]
    assert config["pretrained_cfg"]["mean"] == [0.2]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"num_classes": 8}, "num_classes"),
        ({"classes": ["a", "b"]}, "classes"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"mean": [128.0]}, "mean"),
        ({"mean": [float("nan")]}, "mean"),
        ({"std": [0.0]}, "std"),
        ({"std": [float("inf")]}, "std"),
        ({"input_size": 0}, "input_size"),
        ({"input_size": (8, 8, 8)}, "input_size"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    weights: dict[str, Any], tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    error = refused(saved(weights, tmp_path), tmp_path / "teacher", **options)
    assert (type(error), error.field) == (InvalidRequest, field)


def test_a_teacher_that_is_there_is_not_overwritten_unasked(weights: dict[str, Any], tmp_path: Path) -> None:
    file = saved(weights, tmp_path)
    convert_teacher(file, tmp_path / "teacher")
    with pytest.raises(Conflict, match=r"has a config\.json already"):
        convert_teacher(file, tmp_path / "teacher")
    convert_teacher(file, tmp_path / "teacher", overwrite=True)


def test_what_a_run_left_in_a_folder_is_not_taken_for_the_converted_teacher_s(
    weights: dict[str, Any], tmp_path: Path
) -> None:
    file, out = saved(weights, tmp_path), tmp_path / "student"
    out.mkdir()
    (out / "student.onnx").write_bytes(b"another network")
    (out / "notes.txt").write_text("mine")
    (out / "manifest.json").write_text(json.dumps({"request": {}, "files": {"student.onnx": {}}}))
    with pytest.raises(Conflict, match=r"has a manifest\.json already"):
        convert_teacher(file, out)
    convert_teacher(file, out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"notes.txt", "config.json", "model.safetensors"}


def test_a_folder_a_run_is_working_in_is_not_converted_into(weights: dict[str, Any], tmp_path: Path) -> None:
    file = saved(weights, tmp_path)
    with owned(tmp_path / "teacher"), pytest.raises(Conflict, match="another run is working"):
        convert_teacher(file, tmp_path / "teacher", overwrite=True)


def test_weights_that_are_not_finite_are_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    bad = {**weights, "fc.bias": torch.full((7,), float("nan"))}
    assert "not finite in fc.bias" in refused(saved(bad, tmp_path), tmp_path / "teacher").detail


def test_a_network_without_a_head_is_kept_for_further_training(weights: dict[str, Any], tmp_path: Path) -> None:
    body = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    found = convert_teacher(saved(body, tmp_path), tmp_path / "teacher")
    assert (found.num_classes, found.architecture) == (0, "cifar_resnet")
    assert "train-teacher --pretrained" in found.notes[-1]


# --------------------------------------------------------------------------------------------------- the shell


def test_the_shell_tells_what_was_found_and_the_next_command(weights: dict[str, Any], tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefg") + "\n")
    file, out = saved({"state_dict": weights, "ema": weights}, tmp_path), tmp_path / "teacher"
    args = ["convert", str(file), "-o", str(out), "--classes", str(names), "--mean", "0.2", "--input-size", "8x12"]
    text = CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False).stdout
    assert 'cifar_resnet {"depths": [1, 2, 1], "widths": [8, 12, 16]}: 7 classes' in text
    assert "found in the file at state_dict; also there: ema (--key)" in text
    assert f"next: archsearch distill --teacher {out} --data DATA" in text
    config = json.loads((out / "config.json").read_text())
    assert config["label_names"] == list("abcdefg")
    assert config["pretrained_cfg"]["input_size"] == [1, 8, 12]


@pytest.mark.parametrize("flag", [("--mean", "x"), ("--model-args", "[]")])
def test_a_flag_that_makes_no_sense_is_named(flag: tuple[str, str], weights: dict[str, Any], tmp_path: Path) -> None:
    args = ["convert", str(saved(weights, tmp_path)), "-o", str(tmp_path / "teacher"), *flag]
    with pytest.raises(InvalidRequest) as caught:
        CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    assert caught.value.field == flag[0]
