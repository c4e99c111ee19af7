from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx

from archsearch.hardware.onnx_runtime import open_session, prepare, products, quantise


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with its norm, another one, and a product; ready to be quantised."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.Flatten(),
        nn.Linear(128, 5),
    ).eval()
    batch = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.onnx.export(model, (torch.zeros(2, 1, 8, 8),), dynamo=True, dynamic_shapes=batch, verbose=False)
    assert program is not None
    program.save(str(folder / "a.onnx"))
    prepare(folder / "a.onnx", folder / "prepared.onnx")
    return folder / "prepared.onnx"


def batches(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(count, 4, 1, 8, 8)).astype(np.float32))


def test_norms_are_folded_and_products_found_first_to_last(prepared: Path) -> None:
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(prepared).graph.node}
    names = products(prepared)
    kinds = {node.name: node.op_type for node in onnx.load(prepared).graph.node}
    assert [kinds[name] for name in names] == ["Conv", "Conv", "Gemm"]


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_int8_answers_nearly_as_fp32_and_prints_nothing(
    prepared: Path, tmp_path: Path, calibration: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quantise(prepared, tmp_path / "small.onnx", batches(3), calibration=calibration)
    assert capsys.readouterr().out == ""
    (x_BCHW,) = batches(1)
    before, after = (open_session(p, 1) for p in (prepared, tmp_path / "small.onnx"))
    (expected,) = before.run(None, {before.get_inputs()[0].name: x_BCHW})
    (found,) = after.run(None, {after.get_inputs()[0].name: x_BCHW})
    assert 0 < np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


def test_nodes_to_keep_stay_fp32(prepared: Path, tmp_path: Path) -> None:
    first, _, last = products(prepared)

    def quantised(keep: tuple[str, ...]) -> int:
        quantise(prepared, tmp_path / "small.onnx", batches(1), keep=keep)
        graph = onnx.load(tmp_path / "small.onnx").graph
        made = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        return sum(node.op_type in ("Conv", "Gemm") and node.input[1] in made for node in graph.node)

    assert (quantised(()), quantised((first, last))) == (3, 1)


def test_scales_follow_the_images(prepared: Path, tmp_path: Path) -> None:
    """Images ten times as bright give steps ten times as large, whatever batch they came in."""

    def step(scale: float, count: int) -> float:
        quantise(prepared, tmp_path / "small.onnx", [scale * batch for batch in batches(count)])
        graph = onnx.load(tmp_path / "small.onnx").graph
        node = next(node for node in graph.node if node.op_type == "QuantizeLinear")
        (value,) = [value for value in graph.initializer if value.name == node.input[1]]
        return float(onnx.numpy_helper.to_array(value))

    assert step(10, 2) == pytest.approx(10 * step(1, 2), rel=1e-5)
    assert step(1, 4) >= step(1, 1), "all batches are looked at"
