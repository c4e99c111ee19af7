"""What a score costs over the bare forward and backward pass it cannot do without.

    python -m benchmarks.scoring_cost [--json FILE]

Both sides in one run and in turns, the same networks, the same batch of 64 at 32×32, the same precision (fp32,
channels last): the median over networks of the ratio is what counts, for the machine may be noisy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from archsearch.data.task import Task
from archsearch.hardware import measure
from archsearch.kernels import softened_kl
from archsearch.proxies.evidence import NetworkEvidence, observe_student, observe_teacher
from archsearch.proxies.score import score
from archsearch.spaces import spaces

TASK = Task(100, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
STUDENTS = [
    {"depth1": a, "depth2": b, "depth3": c, "width1": 16, "width2": 32, "width3": 64}
    for a, b, c in ((1, 1, 1), (1, 3, 5), (3, 3, 3), (5, 1, 3), (3, 5, 7), (7, 7, 7))
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    space = spaces.get("resnet_cifar")
    x_BCHW = torch.randn(64, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y_B = torch.arange(64) % TASK.classes
    teacher = observe_teacher(space.build(STUDENTS[2], TASK).eval(), x_BCHW, y_B)
    rows = [cost(architecture, x_BCHW, y_B, teacher, arguments.repeats) for architecture in STUDENTS]
    print(f"{'depths':<10} {'floor ms':>9} {'ours ms':>9} {'ratio':>6} {'meta ms':>8} {'build ms':>8}")
    for architecture, row in zip(STUDENTS, rows, strict=True):
        depths = ",".join(str(architecture[f"depth{i}"]) for i in (1, 2, 3))
        numbers = f"{row['floor_ms']:9.1f} {row['ours_ms']:9.1f} {row['over_floor']:6.2f}"
        print(f"{depths:<10} {numbers} {row['meta_ms']:8.1f} {row['build_ms']:8.1f}")
    summary = {name: median(row[name] for row in rows) for name in rows[0]}
    print(f"{'median':<10} {summary['floor_ms']:9.1f} {summary['ours_ms']:9.1f} {summary['over_floor']:6.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"summary": summary, "rows": rows}, indent=2) + "\n")


def cost(
    architecture: dict[str, int], x_BCHW: torch.Tensor, y_B: torch.Tensor, teacher: NetworkEvidence, repeats: int
) -> dict[str, float]:
    """Milliseconds of one architecture: the bare pass, ours with every proxy, the meta device's count, the build."""
    space = spaces.get("resnet_cifar")
    student = space.build(architecture, TASK).to(memory_format=torch.channels_last).train()

    def floor() -> None:
        student.zero_grad(set_to_none=True)
        softened_kl(student(x_BCHW), teacher.logits_BK, 4.0).backward()

    def ours() -> None:
        score(observe_student(student, x_BCHW, y_B, teacher))

    floor(), ours()  # the first pass of each pays for memory
    pairs = [(timed(floor), timed(ours)) for _ in range(repeats)]
    return {
        "floor_ms": median(bare for bare, _ in pairs),
        "ours_ms": median(full for _, full in pairs),
        "over_floor": median(full / bare for bare, full in pairs),
        "meta_ms": median(timed(lambda: measure(space, architecture, TASK)) for _ in range(repeats)),
        "build_ms": median(timed(lambda: space.build(architecture, TASK)) for _ in range(repeats)),
    }


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
