"""Small ONNX graphs written operator by operator, and what they compute, said once more by torch."""

# B batch, C channels, H W space, K classes, D features

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

CHANNELS, FEATURES, CLASSES = 1, 6, 10
OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3))


def weights(in_chans: int = CHANNELS, classes: int = CLASSES) -> dict[str, np.ndarray[Any, Any]]:
    """Of a 3×3 convolution and of a linear layer."""
    drawn = np.random.RandomState(0)
    shapes = {"kernel": (FEATURES, in_chans, 3, 3), "matrix": (classes, FEATURES), "bias": (classes,)}
    return {name: drawn.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def expected(x_BCHW: Tensor, in_chans: int = CHANNELS, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """The map and the logits of `convolutional`."""
    found = {name: torch.from_numpy(value) for name, value in weights(in_chans, classes).items()}
    map_BDHW = torch.nn.functional.conv2d(x_BCHW, found["kernel"], padding=1).relu()
    return map_BDHW, map_BDHW.mean((2, 3)) @ found["matrix"].T + found["bias"]


def convolutional(
    path: Path,
    *,
    in_chans: int = CHANNELS,
    classes: int = CLASSES,
    layout: str = "nchw",
    batch: int | str = "batch",
    size: int | str = "side",
    kind: int = TensorProto.FLOAT,
    ends: Sequence[str] = (),
    shown: bool = False,
    texts: dict[str, str] | None = None,
    times: float = 1.0,
) -> Path:
    """A convolution, a mean over the image, a linear layer and whatever operators its answers end in.

    Args:
        shown: Whether the map is an output, too.
        texts: Metadata.
        times: What the images are multiplied by first.
    """
    sizes = [in_chans, size, size] if layout == "nchw" else [size, size, in_chans]
    nodes, taken = [], "images"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [taken], ["cast"], to=TensorProto.FLOAT))
        taken = "cast"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [taken], ["turned"], perm=[0, 3, 1, 2]))
        taken = "turned"
    nodes += [
        helper.make_node("Mul", [taken, "times"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "kernel"], ["raw"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["raw"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "matrix", "bias"], ["answers0"], transB=1),
    ]
    for number, name in enumerate(ends):
        nodes.append(helper.make_node(name, [f"answers{number}"], [f"answers{number + 1}"]))
    outputs = [helper.make_tensor_value_info(f"answers{len(ends)}", TensorProto.FLOAT, [batch, classes])]
    if shown:
        outputs.insert(0, helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, FEATURES, size, size]))
    initial = [numpy_helper.from_array(value, name) for name, value in weights(in_chans, classes).items()]
    initial.append(numpy_helper.from_array(np.float32(times), "times"))
    images = helper.make_tensor_value_info("images", kind, [batch, *sizes])
    return save(path, nodes, [images], outputs, initial, texts)


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initial: Sequence[Any] = (),
    texts: dict[str, str] | None = None,
    opsets: Sequence[Any] = OPSETS,
) -> Path:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initial))
    model = helper.make_model(graph, opset_imports=list(opsets), ir_version=9, producer_name="tests")
    helper.set_model_props(model, texts or {})
    onnx.save(model, str(path))
    return path


def one_operator(path: Path, name: str, answers: Any = None, **attributes: Any) -> Path:
    """A graph of a single operator on images of 8×8 pixels."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])
    found = answers or helper.make_tensor_value_info("answers", TensorProto.FLOAT, None)
    return save(path, [helper.make_node(name, ["images"], ["answers"], **attributes)], [images], [found])


def answering(
    path: Path,
    images: Sequence[Any] = (),
    answers: Sequence[Any] = (),
    initial: dict[str, Any] | None = None,
    **also: Any,
) -> Path:
    """`convolutional`, with more operators: those that make `x` of `images`, and `answers` of `raw`.

    Args:
        also: Names of more outputs (`outputs`), functions the file defines, the input's declaration (`port`).
    """
    port = also.get("port") or helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, "side", "side"])
    nodes = [
        *(images or [helper.make_node("Identity", ["images"], ["x"])]),
        helper.make_node("Conv", ["x", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "matrix", "bias"], ["raw"], transB=1),
        *(answers or [helper.make_node("Identity", ["raw"], ["answers"])]),
    ]
    names = ("answers", *also.get("outputs", ()))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    tensors = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in {**weights(), **(initial or {})}.items()
    ]
    own = helper.make_opsetid("own", 1)
    functions = also.get("functions", ())
    save(path, nodes, [port], outputs, tensors, opsets=[*OPSETS, own])
    model = onnx.load(str(path))
    model.functions.extend(helper.make_function("own", *each, [*OPSETS, own]) for each in functions)
    onnx.save(model, str(path))
    return path
