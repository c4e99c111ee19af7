"""The default score of every cell of NAS-Bench-201, made once and kept: what simulated searches look up.

    python -m benchmarks.cells [--data ../shared/data] [--processes 2]

Of the 15,625 cells only 5,260 differ once edges that carry nothing and shortcuts are written out. One of each kind is
scored (about 0.3 s on one thread), because the default score looks at what reaches the output; cells of a kind differ
by the draw of their weights alone, in which layers that do nothing take a part: thousandths of a nat in good cells,
up to a nat in the worst. The scores lie in the cache folder under a hash of the settings they follow from, and a run
that was stopped goes on where it was. A change of the score's code is found out by scoring a few cells again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import permutations, product
from pathlib import Path

from rich.console import Console
from rich.progress import track

from archsearch.hardware import Ruler
from archsearch.models.nasbench201 import SOURCES
from archsearch.proxies.score import DEFAULT
from archsearch.request import Architecture, SearchSpec
from archsearch.search import Bench, evaluate, prepare
from archsearch.settings import user_cache
from archsearch.spaces import nasbench201, spaces
from benchmarks.cifar import load_cifar, load_teacher_for

CLASSES = 100
SPEC = SearchSpec(space="nasbench201")
# An expression is what a node holds: the sum of so many terms, each an operation on what another node holds.
Expression = tuple[object, ...]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args(argv)
    scores = load_scores(arguments.data, processes=arguments.processes)
    print(f"{len(scores)} cells, {sum(math.isfinite(value) for value in scores.values())} of them with a score")


def all_cells() -> list[Architecture]:
    names = [f"edge{i}" for i in range(1, nasbench201.EDGES + 1)]
    choices = range(len(nasbench201.OPERATIONS))
    return [dict(zip(names, chosen, strict=True)) for chosen in product(choices, repeat=nasbench201.EDGES)]


def computed(architecture: Architecture) -> str:
    """What a cell computes, the same text for cells that compute the same: a sum of terms in a fixed order.

    A shortcut hands on the terms themselves, and an operation on nothing is nothing (no operation here adds to zero).
    Two convolutions of the same input are told apart by labels, because two paths may also share one of them; of all
    ways to give the labels the first in order counts.
    """
    operations = nasbench201.operations(architecture)
    unlabelled, inputs = _expression(operations, [0] * nasbench201.EDGES)
    twins: dict[object, list[int]] = {}
    for i, (operation, held) in enumerate(zip(operations, inputs, strict=True)):
        if operation.startswith("nor_conv") and held:
            twins.setdefault((operation, held), []).append(i)
    groups = [edges for edges in twins.values() if len(edges) > 1]
    texts = [repr(unlabelled)] if not groups else []
    for orders in product(*(permutations(range(len(edges))) for edges in groups)) if groups else ():
        labels = [0] * nasbench201.EDGES
        for edges, order in zip(groups, orders, strict=True):
            for edge, label in zip(edges, order, strict=True):
                labels[edge] = label
        texts.append(repr(_expression(operations, labels)[0]))
    return min(texts)


def _expression(operations: Sequence[str], labels: Sequence[int]) -> tuple[Expression, list[Expression]]:
    """What the last node of a cell holds, and what each edge is given."""
    nodes: list[Expression] = [("input",)]
    inputs: list[Expression] = []
    for sources in SOURCES:
        terms: list[object] = []
        for source in sources:
            operation, label, held = operations[len(inputs)], labels[len(inputs)], nodes[source]
            inputs.append(held)
            if operation == "skip_connect":
                terms += held
            elif operation != "none" and held:
                terms.append((operation, label, held))
        nodes.append(tuple(sorted(terms, key=repr)))
    return nodes[-1], inputs


def load_scores(data: Path, *, processes: int = 2, limit: int | None = None) -> dict[str, float]:
    """The score of every cell by its string; −∞ where it is undefined (nothing reaches the output).

    Args:
        limit: Score only so many kinds that are missing, to try things out; cells of the others are left out.
    """
    path = user_cache() / f"nb201-scores-{identity(data)}.csv"
    kinds: dict[str, list[str]] = {}
    for architecture in all_cells():
        kinds.setdefault(computed(architecture), []).append(nasbench201.cell_string(architecture))
    first = [cells[0] for cells in kinds.values()]
    known = read(path)
    missing = [cell for cell in first if cell not in known][:limit]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(processes) as pool, path.open("a") as file:
            scored = pool.map(score_one, missing, [data] * len(missing), chunksize=4)
            shown = track(scored, "cells", len(missing), console=Console(stderr=True), disable=not sys.stderr.isatty())
            for cell, value in zip(missing, shown, strict=True):
                known[cell] = value
                file.write(f"{cell},{value!r}\n")
                file.flush()
    return {cell: known[cells[0]] for cells in kinds.values() for cell in cells if cells[0] in known}


def require_current(data: Path, cells: int = 3) -> None:
    """Exit when a few of those kept come out otherwise if they are scored again: the score has changed since."""
    kept = read(user_cache() / f"nb201-scores-{identity(data)}.csv")
    for cell in list(kept)[:: max(1, len(kept) // cells)][:cells]:
        again = score_one(cell, data)
        if again != kept[cell] and not math.isclose(again, kept[cell], rel_tol=1e-3, abs_tol=1e-3):
            sys.exit(f"{cell} scores {again:.4f}, and was kept with {kept[cell]:.4f}; delete the kept scores")


def identity(data: Path) -> str:
    teacher, dataset = load_teacher_for(data, CLASSES), load_cifar(data, CLASSES)
    settings = [SPEC.model_dump_json(include={"batch_size", "seeds", "seed", "precision"}), dict(DEFAULT)]
    said = json.dumps([*settings, teacher.sha256, dataset.sha256])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    text = path.read_text()
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    # A run that was stopped may have left half a line, which the next one would be joined to.
    if len("".join(lines)) < len(text):
        path.write_text("".join(lines))
    return {cell: float(value) for cell, _, value in (line.strip().rpartition(",") for line in lines)}


@cache
def bench_for(data: Path) -> Bench:
    import torch

    torch.set_num_threads(1)
    teacher = replace(load_teacher_for(data, CLASSES), input_hw=(32, 32))
    return prepare(SPEC, teacher, load_cifar(data, CLASSES), cache=user_cache() / "evidence")


def score_one(cell: str, data: Path) -> float:
    bench = bench_for(data)
    space = spaces.get("nasbench201")
    trial = evaluate(SPEC, space, bench, nasbench201.parse(cell), Ruler(bench.task))
    return -math.inf if trial.score is None else trial.score


if __name__ == "__main__":
    main()
