"""Devices networks are timed on: each turns a network into something that can be run and timed.

A device made elsewhere is a `Profile`. Nothing here imports torch or ONNX Runtime until a network is readied.
"""

# B batch, C channels, H W space, N calibration batches

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from archsearch.data.shape import laid_out
from archsearch.hardware.clock import clock as _clock
from archsearch.hardware.onnx_runtime import open_session, prepare, quantise, quantise_as_it_comes
from archsearch.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

# Milliseconds of one pass, from so many passes in a row.
Runner = Callable[[int], float]
Ready = Callable[["nn.Module", "Tensor", int], AbstractContextManager[Runner]]

# Batches of random images whose activations say how int8 is scaled; how long it takes does not depend on the scales.
_INT8_BATCHES = 2


@dataclass(frozen=True)
class Device:
    """A way to run a network.

    Attributes:
        available: Why this machine has no such device and what to do about it; None where it has.
        ready: From a network, one batch B×C×H×W and a number of threads to a runner. The network itself is left as it
            is, and so is torch once the context is left. The batch should look like the data once normalised: int8
            takes its scales from noise like it.
    """

    name: str
    doc: str
    available: Callable[[], str | None]
    ready: Ready


devices: Registry[Device] = Registry("device")


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Torch with so many threads; as it was afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def ready_torch(model: nn.Module, x_BCHW: Tensor, threads: int) -> Iterator[Runner]:
    """Eager torch on the CPU, channels-last."""
    import torch

    student, x_BCHW = _resting(model, "cpu"), laid_out(x_BCHW.cpu())

    @torch.inference_mode()
    def run(passes: int) -> float:
        return _clock(lambda: student(x_BCHW), passes, threads)

    with pinned(threads):
        yield run


@contextmanager
def ready_onnxruntime(model: nn.Module, x_BCHW: Tensor, threads: int) -> Iterator[Runner]:
    """ONNX Runtime on the CPU in fp32."""
    with TemporaryDirectory(prefix="archsearch-") as folder, pinned(threads):
        path = Path(folder) / "student.onnx"
        _export(_resting(model, "cpu"), x_BCHW.cpu(), path)
        yield _session(path, x_BCHW, threads)


@contextmanager
def ready_onnxruntime_int8(model: nn.Module, x_BCHW: Tensor, threads: int) -> Iterator[Runner]:
    """ONNX Runtime on the CPU in int8: static, in QDQ form, scaled on noise shaped like the batch; of inputs that are
    ids, which noise is not like, dynamic, as students of such come."""
    with TemporaryDirectory(prefix="archsearch-") as folder, pinned(threads):
        path, small = Path(folder) / "student.onnx", Path(folder) / "student.int8.onnx"
        _export(_resting(model, "cpu"), x_BCHW.cpu(), path)
        _quantise(path, small, x_BCHW)
        yield _session(small, x_BCHW, threads)


@contextmanager
def ready_cuda(model: nn.Module, x_BCHW: Tensor, threads: int) -> Iterator[Runner]:
    """Eager torch on the current CUDA device, channels-last, timed by the device's own events."""
    import torch

    student = _resting(model, "cuda")
    x_BCHW = laid_out(x_BCHW.to("cuda"))

    @torch.inference_mode()
    def run(passes: int) -> float:
        return _events(lambda: student(x_BCHW), passes)

    with pinned(threads):
        yield run


@contextmanager
def ready_cuda_graph(model: nn.Module, x_BCHW: Tensor, threads: int) -> Iterator[Runner]:
    """One CUDA graph of the whole forward pass: what is left when launching kernels costs nothing."""
    import torch

    student = _resting(model, "cuda")
    x_BCHW = laid_out(x_BCHW.to("cuda"))
    graph = torch.cuda.CUDAGraph()
    with pinned(threads), torch.inference_mode():
        # Libraries make their workspaces in the first passes, which a capture does not allow.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                student(x_BCHW)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            student(x_BCHW)
        yield lambda passes: _events(graph.replay, passes)


def _resting(model: nn.Module, where: str) -> nn.Module:
    """A copy in eval mode, channels-last, without gradients."""
    import torch

    student = deepcopy(model).eval().requires_grad_(False).to(where)
    # Only four-dimensional weights are laid out anew.
    return student.to(memory_format=torch.channels_last)


def _events(run_once: Callable[[], object], passes: int) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    for _ in range(passes):
        run_once()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / passes


def _export(student: nn.Module, x_BCHW: Tensor, path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        # The exporter by tracing is on its way out, and five times as fast or more (0.04–0.4 s against 0.6–2.3 s)
        # for a graph that runs at the same pace; twenty members are exported before a search begins.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(student, (x_BCHW,), str(path), dynamo=False)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            # It is gone from this torch, or cannot follow this network; the other one needs onnxscript.
            torch.onnx.export(student, (x_BCHW,), str(path), dynamo=True, external_data=False, verbose=False)


def _quantise(path: Path, small: Path, x_BCHW: Tensor) -> None:
    import torch

    if not x_BCHW.is_floating_point():
        quantise_as_it_comes(path, small)
        return
    generator = torch.Generator().manual_seed(0)
    batches_NBCHW = torch.randn(_INT8_BATCHES, *x_BCHW.shape, generator=generator)
    prepared = path.with_suffix(".prepared.onnx")
    prepare(path, prepared)
    quantise(prepared, small, list(batches_NBCHW.numpy()))


def _session(path: Path, x_BCHW: Tensor, threads: int) -> Runner:
    session = open_session(path, threads)
    feeds = {session.get_inputs()[0].name: x_BCHW.cpu().contiguous().numpy()}
    return lambda passes: _clock(lambda: session.run(None, feeds), passes, threads)


def _always() -> str | None:
    return None


def _needs(*packages: str) -> Callable[[], str | None]:
    def available() -> str | None:
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if not missing:
            return None
        verb = "is" if len(missing) == 1 else "are"
        return f"{' and '.join(missing)} {verb} not installed: pip install {' '.join(missing)}"

    return available


def _needs_cuda() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device that torch can use"


for _device in (
    Device("cpu-torch", "This machine's processor, eager PyTorch, fp32, channels-last.", _always, ready_torch),
    Device(
        "cpu-onnxruntime",
        "This machine's processor, ONNX Runtime, fp32.",
        _needs("onnx", "onnxruntime"),
        ready_onnxruntime,
    ),
    Device(
        "cpu-onnxruntime-int8",
        "This machine's processor, ONNX Runtime, weights and activations in int8 (static, QDQ; dynamic for texts).",
        _needs("onnx", "onnxruntime"),
        ready_onnxruntime_int8,
    ),
    Device("cuda-torch", "The current CUDA device, eager PyTorch, fp32, channels-last.", _needs_cuda, ready_cuda),
    Device(
        "cuda-graph",
        "The current CUDA device, the whole forward pass as one CUDA graph, fp32, channels-last.",
        _needs_cuda,
        ready_cuda_graph,
    ),
):
    devices.add(_device.name, _device)
