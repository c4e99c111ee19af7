from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from archsearch.cli.profile import commands
from archsearch.cli.profile import devices as devices_command
from archsearch.cli.profile import profile as profile_command
from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware.profile import read_profile


def test_the_commands_there_are() -> None:
    assert [command.name for command in commands] == ["profile", "devices"]


def test_devices_are_listed_with_what_they_lack() -> None:
    found = CliRunner().invoke(devices_command, ["--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(found.output)}
    assert rows["cpu-torch"]["unavailable"] is None
    assert {"cpu-onnxruntime", "cpu-onnxruntime-int8", "cuda-torch", "cuda-graph"} <= rows.keys()
    assert "cpu-torch" in CliRunner().invoke(devices_command, [], catch_exceptions=False).output


@pytest.mark.slow
def test_a_profile_is_written_that_can_be_read(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    arguments = "--space resnet_cifar --image-size 8 --in-chans 1 --classes 3 --members 8 --name board --out"
    found = CliRunner().invoke(profile_command, [*arguments.split(), str(out)], catch_exceptions=False)
    assert found.exit_code == 0
    assert "resnet_cifar" in found.output
    assert str(out) in found.output.replace("\n", "")
    profile = read_profile(out)
    assert (profile.name, profile.device, profile.batch, profile.threads) == ("board", "cpu-torch", 1, 1)
    assert len(profile.entries) == 8
    assert profile.predictors(ImageTask(3, 1, 8, 8, (0.5,), (0.5,)), 1).keys() == {"resnet_cifar"}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--space", "resnet_cifra"], "--space"),
        (["--space", "vit", "--device", "cpu-troch"], "--latency-device"),
        (["--space", "vit", "--space", "resnet_cifar", "--space", "convnext", "--members", "250"], "--members"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_timed(arguments: list[str], field: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as error:
        CliRunner().invoke(profile_command, [*arguments, "--out", str(tmp_path / "p.json")], catch_exceptions=False)
    assert error.value.field == field


def test_a_folder_that_is_not_there_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="make it first"):
        CliRunner().invoke(
            profile_command, ["--space", "vit", "--out", str(tmp_path / "no" / "p.json")], catch_exceptions=False
        )
