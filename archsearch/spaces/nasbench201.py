"""NAS-Bench-201's cells (Dong and Yang 2020), to compare scores with its tables of trained accuracies."""

from __future__ import annotations

import re

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.request import Architecture
from archsearch.spaces.cells import CELLS, EDGES, OPERATIONS, WIDTHS
from archsearch.spaces.count import Count, batch_norm, conv, linear, moved, total
from archsearch.spaces.space import Parameter, Recipe, Space, spaces

_KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
# |op~0|+|op~0|op~1|+|op~0|op~1|op~2|: each operation with the node it comes from.
_CELL = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")


def parse(cell: str) -> Architecture:
    """The architecture a cell string of the benchmark stands for; raises InvalidRequest for any other string."""
    found = _CELL.fullmatch(cell)
    if not found:
        raise InvalidRequest(f"{cell!r} is no cell: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|", field="cell")
    for operation in found.groups():
        if operation not in OPERATIONS:
            raise InvalidRequest(f"{operation!r} is none of {', '.join(OPERATIONS)}", field="cell")
    return {f"edge{i}": OPERATIONS.index(operation) for i, operation in enumerate(found.groups(), 1)}


def cell_string(architecture: Architecture) -> str:
    """The benchmark's own name of an architecture."""
    a, b, c, d, e, f = operations(architecture)
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def operations(architecture: Architecture) -> list[str]:
    return [OPERATIONS[architecture[f"edge{i}"]] for i in range(1, EDGES + 1)]


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    doc = ", ".join(f"{i} {operation}" for i, operation in enumerate(OPERATIONS))
    return tuple(Parameter(f"edge{i}", 0, len(OPERATIONS) - 1, 1, doc) for i in range(1, EDGES + 1))


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    return Recipe("nasbench201", {"cell": operations(architecture)}, stock=False)


def count(architecture: Architecture, task: ImageTask) -> Count:
    height, width = task.height, task.width
    parts = [conv(task.in_chans, WIDTHS[0], 3, height * width), batch_norm(WIDTHS[0], height * width)]
    c_in = WIDTHS[0]
    for i, c_out in enumerate(WIDTHS):
        if i:
            height, width = -(-height // 2), -(-width // 2)
            norm = batch_norm(c_out, height * width)
            parts += [conv(c_in, c_out, 3, height * width, stride=2), norm, conv(c_out, c_out, 3, height * width), norm]
            parts.append(conv(c_in, c_out, 1, height * width))
        norm = batch_norm(c_out, height * width)
        for operation in operations(architecture):
            if operation in _KERNELS:
                parts += [conv(c_out, c_out, _KERNELS[operation], height * width), norm] * CELLS
            elif operation == "avg_pool_3x3":
                parts += [moved(c_out * height * width)] * CELLS
        c_in = c_out
    return total(*parts, batch_norm(c_in, height * width), linear(c_in, task.classes, 1))


spaces.add(
    "nasbench201",
    Space(
        name="nasbench201",
        doc="NAS-Bench-201 cells for comparisons: six edges, five operations.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="sgd",
        benchmark=True,
    ),
)
