"""`--device` is where everything is computed; what latency is limited on has a flag of its own."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from archsearch.cli import app
from archsearch.cli.inputs import build_request, request_options
from archsearch.errors import InvalidRequest
from archsearch.request import JobRequest


def asked(*args: str) -> JobRequest:
    found: list[JobRequest] = []

    @click.command()
    @request_options
    def command(**flags: Any) -> None:
        found.append(build_request("search", flags))

    command.main(["--teacher", "resnet18", "--data", "digits", "--params-ratio", "0.1", *args], standalone_mode=False)
    return found[0]


def test_each_flag_says_its_own() -> None:
    found = asked("--device", "cuda:1", "--latency-device", "cpu-onnxruntime")
    assert (found.device, found.budget.device) == ("cuda:1", "cpu-onnxruntime")
    assert (asked().device, asked().budget.device) == ("auto", "cpu-torch")


@pytest.mark.parametrize("named", ["cpu-onnxruntime", "board.json", "prf_0123456789abcdef0123"])
def test_what_latency_is_limited_on_is_still_heard_and_told_of(named: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked("--device", named)
    assert (found.device, found.budget.device) == ("auto", named)
    assert f"{named} is taken for --latency-device" in capsys.readouterr().err


@pytest.mark.parametrize("named", ["gpu", "cpu-troch", "cuda:"])
def test_what_is_neither_is_told_of_both(named: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"such as cuda:1\. What latency is limited on is --latency-device"
    ) as caught:
        asked("--device", named)
    assert caught.value.field == "--device"


def test_both_cannot_name_what_latency_is_limited_on() -> None:
    with pytest.raises(InvalidRequest, match="cpu-torch is for --latency-device, which is given already"):
        asked("--device", "cpu-torch", "--latency-device", "cpu-torch")


@pytest.mark.parametrize("command", ["train-teacher"])
def test_other_commands_take_nothing_else(command: str) -> None:
    found = CliRunner().invoke(app, [command, "--device", "cpu-torch", "--data", "digits", "--out", "nowhere"])
    assert found.exit_code == 2
    assert "no device to compute on; take auto, cpu, cuda" in " ".join(found.output.split())


def test_what_can_be_computed_on_is_listed_beside_what_can_be_timed() -> None:
    found = json.loads(CliRunner().invoke(app, ["devices", "--json"], catch_exceptions=False).output)
    assert {"cpu"} <= {row["name"] for row in found if row["for"] == "computing"}
    assert {"cpu-torch", "cuda-graph"} <= {row["name"] for row in found if row["for"] == "latency"}
