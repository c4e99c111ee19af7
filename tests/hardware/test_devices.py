from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from archsearch.data.shape import Shape
from archsearch.errors import InvalidRequest, UnknownName
from archsearch.hardware import devices as module
from archsearch.hardware.devices import devices
from archsearch.hardware.latency import measure_latency

HERE = [device.name for device in devices if device.available() is None]
CPU = [name for name in HERE if name.startswith("cpu-")]
NAMES = ["cpu-onnxruntime", "cpu-onnxruntime-int8", "cpu-torch", "cuda-graph", "cuda-torch"]


def net(width: int, depth: int = 2) -> nn.Module:
    layers = [
        nn.Sequential(nn.Conv2d(width if i else 3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        for i in range(depth)
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4))


def test_the_devices_there_are() -> None:
    assert devices.names() == NAMES
    assert all(device.doc.endswith(".") for device in devices)


def test_the_processor_is_always_here() -> None:
    assert devices.get("cpu-torch").available() is None


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert devices.get("cpu-onnxruntime").available() == (
        "onnx and onnxruntime are not installed: pip install onnx onnxruntime"
    )


def test_an_absent_device_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidRequest, match="cuda-graph is not here: no CUDA device"):
        measure_latency(net(4), Shape((3, 8, 8)), "cuda-graph")


def test_an_unknown_device_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'cpu-torch'"):
        measure_latency(net(4), Shape((3, 8, 8)), "cpu-torhc")


def test_listing_devices_imports_no_runtime() -> None:
    code = (
        "import sys; from archsearch.hardware.devices import devices; devices.names();"
        "print([name for name in ('torch', 'onnxruntime', 'onnx', 'scipy', 'sklearn') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", CPU)
def test_a_network_fifty_times_as_large_is_slower(name: str) -> None:
    small, large = (measure_latency(net(width, 4), Shape((3, 16, 16)), name, budget_s=0.05) for width in (8, 64))
    assert 0 < small.low_ms <= small.median_ms <= small.high_ms
    assert small.median_ms < large.median_ms


@pytest.mark.parametrize("name", CPU)
def test_network_and_torch_are_left_as_they_were(name: str) -> None:
    model = net(4).train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    measure_latency(model, Shape((3, 8, 8)), name, threads=threads + 1, min_repeats=1, budget_s=0.01)
    assert torch.get_num_threads() == threads
    assert torch.get_rng_state().equal(state)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    assert all(value.equal(weights[key]) for key, value in model.state_dict().items())


def test_threads_are_restored_when_a_network_fails() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        measure_latency(net(4), Shape((5, 8, 8)), "cpu-torch", threads=before + 1)
    assert torch.get_num_threads() == before


def test_one_thread_is_not_charged_for_others_time() -> None:
    # Sleep stands for another process that has the processor.
    slept_ms = module._clock(lambda: time.sleep(0.02), 5, threads=1)
    assert slept_ms < 10 < 15 < module._clock(lambda: time.sleep(0.02), 5, threads=2)


@pytest.mark.skipif("cpu-onnxruntime-int8" not in HERE, reason="onnxruntime is not installed")
def test_int8_quantises_products_and_leaves_norms(tmp_path, recwarn: pytest.WarningsRecorder) -> None:
    import onnx

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.LayerNorm(36), nn.Linear(36, 5)).eval()
    x_BCHW = torch.randn(2, 3, 8, 8)
    path, small = tmp_path / "a.onnx", tmp_path / "b.onnx"
    module._export(model, x_BCHW, path)
    module._quantise(path, small, x_BCHW)
    graph = onnx.load(small).graph
    made = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    inputs = {node.op_type: node.input for node in graph.node}
    assert inputs["Conv"][1] in made
    assert inputs["LayerNormalization"][1] not in made
    assert not list(recwarn)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda-torch", "cuda-graph"])
def test_cuda_times_a_network(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = measure_latency(net(8), Shape((3, 16, 16)), name, batch=4)
    assert 0 < found.low_ms <= found.median_ms <= found.high_ms
