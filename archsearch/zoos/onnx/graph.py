"""An ONNX file read before any runtime sees it: one graph of known operators, with all its weights inside."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.data.batches import require_room
from archsearch.errors import TeacherError
from archsearch.teachers.source import check_onnx_file
from archsearch.zoos.onnx.library import library

# Operators whose subgraphs run or do not, or again and again: what they cost, and how long they take, nobody can say.
_CONTROL = frozenset(["If", "Loop", "Scan", "SequenceMap"])
# Whose operators ONNX Runtime has; whatever else is there has to be a function the file itself defines.
_DOMAINS = frozenset(["", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"])
# What only passes answers on.
_PASSING = frozenset(["Identity", "Cast", "Reshape", "Squeeze", "Flatten", "Unsqueeze", "Dropout"])
_PROBABLE = {"Softmax": "softmax", "Sigmoid": "sigmoid", "HardSigmoid": "sigmoid"}
# Of classifiers of the operators for classical machine learning, by what they do at their end.
_AFTERWARDS = {b"SOFTMAX": "softmax", b"LOGISTIC": "sigmoid", b"SOFTMAX_ZERO": "softmax"}
# In memory it is once as it is read, once as the runtime has it, and once more while that is made.
_COPIES = 3


@dataclass(frozen=True)
class Graph:
    """An ONNX file that may be asked.

    Attributes:
        content: As it came.
        model: The same as protobuf.
        texts: Its metadata.
    """

    content: bytes
    model: Any
    texts: dict[str, str]

    def ends_in(self, output: str) -> str | None:
        """`softmax` or `sigmoid`, where that is what the answers of an output come from; None where it is not."""
        made_by = {name: node for node in self.model.graph.node for name in node.output}
        node = made_by.get(output)
        while node is not None and node.op_type in _PASSING and node.input:
            node = made_by.get(node.input[0])
        if node is None:
            return None
        afterwards = next((each.s for each in node.attribute if each.name == "post_transform"), b"")
        return _PROBABLE.get(node.op_type) or _AFTERWARDS.get(afterwards)


def read_graph(path: Path, *, field: str) -> Graph:
    """A file's graph; raises TeacherError saying what about it cannot be a teacher, and what to do.

    External data are refused unread, for their places are paths of whoever made the file.
    """
    check_onnx_file(path, field=field)
    require_room(_COPIES * path.stat().st_size, "the ONNX file", field=field, fix="use a smaller network")
    content = path.read_bytes()
    model = library("onnx").ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf raises a kind of its own
        detail = f"not a whole ONNX file ({type(error).__name__}); was it cut short?"
        raise TeacherError(detail, field=field) from None
    if not model.graph.node:
        raise TeacherError("the ONNX graph has no operators", field=field)
    _check_weights(model, field)
    _check_operators(model, field)
    _check_names(model.graph, field)
    _check_inputs(model.graph, field)
    # Protobuf hands on as bytes what is no text; of metadata that is some other program's.
    texts = {prop.key: prop.value for prop in model.metadata_props}
    return Graph(content, model, {key: text for key, text in texts.items() if type(key) is type(text) is str})


def _check_weights(model: Any, field: str) -> None:
    for tensor in tensors(model):
        if tensor.external_data or tensor.data_location == tensor.EXTERNAL:
            raise TeacherError(
                f"the weights {tensor.name!r:.80} lie in another file (external data), which is never read; save them "
                "inside: onnx.save(onnx.load('model.onnx'), 'whole.onnx', save_as_external_data=False), or export them "
                "so: torch.onnx.export(model, images, path, external_data=False)",
                field=field,
            )


def _check_operators(model: Any, field: str) -> None:
    defined = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        name = f"{node.op_type} ({node.name or 'without a name'})"[:120]
        if node.op_type in _CONTROL or any(each.HasField("g") or each.graphs for each in node.attribute):
            raise TeacherError(
                f"the graph has control flow, {name}; export the network traced, so that it takes one way: "
                "torch.onnx.export(model, images, path)",
                field=field,
            )
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in defined:
            raise TeacherError(
                f"{name} is an operator of {node.domain!r:.80}, which ONNX Runtime does not have; export the network "
                "with standard operators alone",
                field=field,
            )


def _check_names(graph: Any, field: str) -> None:
    for value in (*graph.input, *graph.output):
        if not isinstance(value.name, str):
            raise TeacherError(
                f"the name {value.name!r:.60} of an input or output is no text in UTF-8; export it again", field=field
            )


def _check_inputs(graph: Any, field: str) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in weights]
    if len(names) != 1:
        has = ", ".join(map(repr, names[:4])) or "none"
        raise TeacherError(
            f"the graph takes {len(names)} inputs ({has[:200]}), a teacher of images takes one; export it with images "
            "alone, the others fixed",
            field=field,
        )


def tensors(model: Any) -> Iterator[Any]:
    """Every tensor that is kept in a file: weights, and constants of operators."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for sparse in (
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] * attribute.HasField("sparse_tensor")),
            ):
                yield from (sparse.values, sparse.indices)


def _nodes(model: Any) -> Iterator[Any]:
    """The operators of a graph, of the functions it defines, and of graphs inside, however deep."""
    left = deque([model.graph.node, *(function.node for function in model.functions)])
    while left:
        for node in left.popleft():
            yield node
            for attribute in node.attribute:
                left.extend(graph.node for graph in attribute.graphs)
                if attribute.HasField("g"):
                    left.append(attribute.g.node)
