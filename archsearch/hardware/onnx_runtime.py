"""ONNX Runtime on this machine's processor: sessions, and quantisation to int8, static or dynamic."""

# B batch, C channels, H W space

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

# How the scales of activations follow from what calibration sees: the whole range; the range whose int8 histogram is
# nearest to the float one in KL; or the range that leaves one value in 100,000 out.
Calibration = Literal["minmax", "entropy", "percentile"]


def open_session(path: Path, threads: int, *, spin: bool = True) -> Any:
    """A session on the CPU that keeps its warnings to itself.

    Args:
        spin: Let threads without work wait busily, which is fastest where nobody else wants the processor; elsewhere
            it takes several times as long.
    """
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def prepare(path: Path, prepared: Path) -> None:
    """Fold norms into convolutions and infer shapes, as quantisation wants its input."""
    from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

    # Symbolic shapes are for graphs whose sizes depend on more than the batch.
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)


def products(prepared: Path) -> list[str]:
    """Names of the nodes that multiply by weights, first to last."""
    import onnx

    graph = onnx.load(str(prepared), load_external_data=False).graph
    weights = {value.name for value in graph.initializer}
    found = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return [node.name for node in found if weights & set(node.input[1:2])]


def before_products(prepared: Path) -> list[str]:
    """Names of the nodes that only cast, turn and normalise the input: eight bits would be lost on them for nothing."""
    import onnx

    graph = onnx.load(str(prepared), load_external_data=False).graph
    touched, found = {graph.input[0].name}, []
    for node in graph.node:  # each comes after what it takes
        if touched & set(node.input) and node.op_type in ("Cast", "Transpose", "Div", "Sub", "Mul", "Add"):
            touched |= set(node.output)
            found.append(node.name)
    return found


def quantise(
    prepared: Path,
    small: Path,
    batches: Sequence[npt.NDArray[Any]],
    *,
    calibration: Calibration = "minmax",
    keep: Sequence[str] = (),
) -> None:
    """Static quantisation in QDQ form: uint8 activations, int8 weights with a scale for each output channel.

    Args:
        prepared: What `prepare` made.
        small: File to write.
        batches: Images as the file takes them, whose activations set the scales. They are looked at one batch at a
            time, so that a batch's activations are all that has to fit into memory.
        keep: Names of nodes that stay in fp32.
    """
    from onnxruntime.quantization import (  # type: ignore[import-untyped]
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.registry import QDQRegistry  # type: ignore[import-untyped]

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    with contextlib.redirect_stdout(io.StringIO()):  # its calibrators print
        quantize_static(
            str(prepared),
            str(small),
            _reader(prepared, batches),
            # Norms of layers stay fp32: they are not matrices, and have no axis of channels to scale by.
            op_types_to_quantize=[name for name in QDQRegistry if name != "LayerNormalization"],
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=methods[calibration],
            nodes_to_exclude=list(keep),
            extra_options={"CalibStridedMinMax": 1},
        )


def quantise_as_it_comes(path: Path, small: Path) -> None:
    """Dynamic quantisation: int8 weights, activations scaled as they come. Only products: an embedding in int8 gathers
    as fast and answers worse."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with contextlib.redirect_stdout(io.StringIO()), _without_advice():
        quantize_dynamic(str(path), str(small), weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser tells everybody's log of an example about images."""

    def others(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(others)
    try:
        yield
    finally:
        root.removeFilter(others)


def _reader(prepared: Path, batches: Sequence[npt.NDArray[Any]]) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    name = str(onnx.load(str(prepared), load_external_data=False).graph.input[0].name)

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.set_range(0, len(batches))

        def __len__(self) -> int:
            return len(batches)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.left = iter(batches[start_index:end_index])

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            batch = next(self.left, None)
            return None if batch is None else {name: batch}

    return Batches()
