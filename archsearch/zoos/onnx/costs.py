"""What a graph costs: weights counted in the file, multiply-accumulates on the shapes one example really has in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from archsearch.zoos.onnx.graph import Graph, tensors
from archsearch.zoos.onnx.library import library, session_of

Sizes = tuple[int, ...]
# Which input of an operator holds a kernel (O×I/groups×…): a product of so many numbers for each number it puts out.
_KERNELS = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "QLinearConv": 3}
# The same the other way round (I×O/groups×…): for each number it takes.
_TRANSPOSED = {"ConvTranspose": 1}
# Matrix products contract the last dimension of their first factor.
_PRODUCTS = frozenset(["MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "Gemm", "FusedGemm", "QGemm"])


def params(graph: Graph) -> int:
    """Numbers that weigh something (count): whole ones are shapes and places, unless they are quantised weights."""
    kinds = library("onnx").TensorProto
    floats = {kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE, kinds.INT8, kinds.UINT8}
    found: int = sum(math.prod(tensor.dims) for tensor in tensors(graph.model) if tensor.data_type in floats)
    # Trees and linear models of classical machine learning keep theirs in lists.
    found += sum(len(each.floats) for node in graph.model.graph.node for each in node.attribute)
    return found


def macs(graph: Graph, feed: Mapping[str, Any], examples: int) -> int:
    """Multiply-accumulates of one example in convolutions and matrix products.

    The shapes are those of a run in which every product shows what it takes and gives: nothing is inferred, so it
    counts whatever the runtime can run. Of a graph without any such operator it is 0.

    Args:
        feed: What the graph takes, of so many `examples`.
    """
    # Of functions the file defines, what they are made of stands where they are called.
    model = library("onnx.inliner").inline_local_functions(graph.model) if graph.model.functions else graph.model
    products = [node for node in model.graph.node if _read(node)]
    if not products:
        return 0
    known: dict[str, Sizes] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    known |= {name: value.shape for name, value in feed.items()}
    known |= _seen(model, {name for node in products for name in _read(node)} - known.keys(), feed)
    return sum(_of(node, known.__getitem__) for node in products) // examples


def _read(node: Any) -> list[str]:
    """The values whose shapes tell what an operator multiplies; none of one that multiplies nothing."""
    if node.op_type in _KERNELS:
        return [node.output[0], node.input[_KERNELS[node.op_type]]]
    if node.op_type in _TRANSPOSED:
        return [node.input[0], node.input[_TRANSPOSED[node.op_type]]]
    return [node.output[0], node.input[0]] if node.op_type in _PRODUCTS else []


def _of(node: Any, sizes: Callable[[str], Sizes]) -> int:
    numbers, factor = (sizes(name) for name in _read(node))
    if node.op_type in _PRODUCTS:
        turned = any(each.name == "transA" and each.i for each in node.attribute)
        return math.prod(numbers) * factor[-2 if turned else -1]
    return math.prod(numbers) * math.prod(factor[1:])


def _seen(model: Any, names: set[str], feed: Mapping[str, Any]) -> dict[str, Sizes]:
    """Shapes of values inside a graph, by a run that puts them out."""
    onnx = library("onnx")
    open_ = onnx.ModelProto()
    open_.CopyFrom(model)
    del open_.graph.output[:]
    open_.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sorted(names))
    found = session_of(open_.SerializeToString()).run(sorted(names), dict(feed))
    return {name: value.shape for name, value in zip(sorted(names), found, strict=True)}
