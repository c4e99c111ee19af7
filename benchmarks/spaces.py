"""What every family promises, tried out at every resolution: it builds, runs, costs what was counted, and is loaded.

    python -m benchmarks.spaces [--members 3] [--sides 28 32 64 224] [--families resnet vit] [--json FILE]

Of each family and resolution some members are drawn, always the same; the smallest is among them:

    runs          each answers a batch with finite numbers that depend on the image
    params, size  each has as many parameters, and stores as many bytes, as its count says; mismatches are counted
    MACs          the largest relative error of the count against what torch itself counts
    loads         one drawn member comes back from its files in a process where archsearch cannot be imported: through
                  timm where the family is stock, through torch.export's program where it is not
    off           by how much that process's answers differ from the student's, at most; the same of ONNX Runtime's

Resolutions a family refuses are not failures; whatever raises is, and the others go on. Images are noise, and weights
are drawn with norm statistics and biases moved, so no data are needed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from archsearch import export
from archsearch.data.shape import Shape
from archsearch.domains.images.normalise import normalise
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import measure_model, size_bytes
from archsearch.request import Architecture
from archsearch.spaces import Space, of_domain, spaces

# B batch, C channels, H W space, K classes

SIDES = (28, 32, 64, 224)
CLASSES, BATCH = 10, 2
TOLERANCE = 1e-4
FAMILIES = tuple(space.name for space in of_domain("image_classification") if not space.benchmark)

# Programs first: they have to load before timm is there.
_ELSEWHERE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "archsearch":
            raise ImportError("archsearch is not installed here")

sys.meta_path.insert(0, Refuse())
import json
import numpy, torch

def load(job):
    if job["kind"] == "pt2":
        return torch.export.load(job["folder"] + "/student.pt2").module()
    import timm
    return timm.create_model("local-dir:" + job["folder"], pretrained=True).eval()

found = {}
for job in sorted(json.load(sys.stdin), key=lambda job: job["kind"] != "pt2"):
    try:
        with torch.inference_mode():
            answers = load(job)(torch.from_numpy(numpy.load(job["folder"] + "/x.npy"))).numpy()
        found[job["name"]] = float(abs(answers - numpy.load(job["folder"] + "/answers.npy")).max())
    except Exception as error:
        found[job["name"]] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


@dataclass
class Row:
    """One family at one resolution; `failures` says what went wrong, in order."""

    family: str
    side: int
    refused: str | None = None
    stock: bool = False
    members: int = 0
    ran: int = 0
    params_mismatch: int = 0
    size_mismatch: int = 0
    macs_rel_err: float = 0.0
    loaded_off: float | None = None
    onnx_off: float | None = None
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.family}-{self.side}"

    def attempt(self, what: str, action: Callable[[], None]) -> None:
        """Note what raises, and go on."""
        try:
            action()
        except Exception as error:
            self.failures.append(
                f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--members", type=int, default=3, help="of each family at each resolution; default: %(default)s"
    )
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    rows = try_out(arguments.families, arguments.sides, arguments.members)
    show(rows)
    if arguments.json:
        found = {"rows": [asdict(row) for row in rows], "summary": summary(rows)}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if any(row.failures or row.params_mismatch or row.size_mismatch or row.macs_rel_err for row in rows):
        sys.exit(1)


def try_out(families: Sequence[str], sides: Sequence[int], members: int) -> list[Row]:
    rows = [Row(family, side) for family in families for side in sides]
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in track(rows, "families", console=console, disable=not sys.stderr.isatty()):
            started = time.perf_counter()
            row.attempt("row", partial(_try_row, row, members, Path(folder)))
            row.seconds = time.perf_counter() - started
        _load_elsewhere(rows, Path(folder))
    return rows


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    taken = [row for row in rows if row.refused is None]
    offs = [off for row in taken for off in (row.loaded_off, row.onnx_off) if off is not None]
    return {
        "families": len({row.family for row in taken}),
        "failures": sum(len(row.failures) for row in rows),
        "params_mismatch": sum(row.params_mismatch for row in rows),
        "size_mismatch": sum(row.size_mismatch for row in rows),
        "macs_max_rel_err": max((row.macs_rel_err for row in taken), default=0.0),
        "max_abs_difference": max(offs, default=None),
        "refused": [row.name for row in rows if row.refused is not None],
        "members": sum(row.members for row in rows),
        "torch": torch.__version__,
    }


def drawn(space: Space, task: ImageTask, members: int) -> list[Architecture]:
    """The smallest and others, always the same."""
    rng = random.Random(f"{space.name}/{task.height}")
    some = [{p.name: rng.choice(p.values) for p in space.parameters(task)} for _ in range(members - 1)]
    return [space.smallest(task), *some]


def _try_row(row: Row, members: int, folder: Path) -> None:
    space, task = spaces.get(row.family), ImageTask(CLASSES, 3, row.side, row.side, (0.5,) * 3, (0.25,) * 3)
    row.refused = space.refusal(task)
    if row.refused is not None:
        return
    row.stock = space.stock(task)
    shape = (BATCH, row.side, row.side, 3)
    pixels_BHWC = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    x_BCHW = normalise(torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float() / 255, task.mean, task.std)
    architectures = drawn(space, task, members)
    for architecture in architectures:
        row.members += 1
        row.attempt(f"{architecture}", partial(_try_member, row, space, task, architecture, x_BCHW))
    row.attempt("files", partial(_save, row, space, task, architectures[-1], x_BCHW, pixels_BHWC, folder / row.name))


def _try_member(row: Row, space: Space, task: ImageTask, architecture: Architecture, x_BCHW: Tensor) -> None:
    student = _student(space, task, architecture)
    count = space.count(architecture, task)
    row.params_mismatch += count.params != sum(weight.numel() for weight in student.parameters())
    row.size_mismatch += size_bytes(count, "fp32") != sum(value.nbytes for value in student.state_dict().values())
    macs = measure_model(student.requires_grad_(False), Shape((3, task.height, task.width))).macs
    row.macs_rel_err = max(row.macs_rel_err, abs(count.macs - macs) / macs)
    logits_BK = _answers(student, x_BCHW)
    if logits_BK.shape != (BATCH, CLASSES) or not logits_BK.isfinite().all():
        raise ValueError(f"answers {tuple(logits_BK.shape)}, finite: {bool(logits_BK.isfinite().all())}")
    if logits_BK[0].equal(logits_BK[1]):
        raise ValueError("the answer does not depend on the image")
    row.ran += 1


def _save(
    row: Row,
    space: Space,
    task: ImageTask,
    architecture: Architecture,
    x_BCHW: Tensor,
    pixels_BHWC: npt.NDArray[np.uint8],
    folder: Path,
) -> None:
    """Write the student, what it is asked elsewhere and what it answers; ask ONNX Runtime at once."""
    import onnxruntime

    student = _student(space, task, architecture)
    export.save_student(student, task, folder)
    expected_BK = _answers(student, x_BCHW).numpy()
    # The weights take normalised floats, and programs the pixels they come from.
    np.save(folder / "x.npy", x_BCHW.numpy() if row.stock else pixels_BHWC)
    np.save(folder / "answers.npy", expected_BK)
    if not row.stock:
        export.save_pt2(student, task, folder / export.PT2)
    export.save_onnx(student, task, folder / export.ONNX)
    session = onnxruntime.InferenceSession(folder / export.ONNX, providers=["CPUExecutionProvider"])
    (found_BK,) = session.run(None, {"images": pixels_BHWC})
    row.onnx_off = float(np.abs(found_BK - expected_BK).max())
    if row.onnx_off > TOLERANCE:
        row.failures.append(f"onnx: answers differ by {row.onnx_off:.2g}")


def _load_elsewhere(rows: Sequence[Row], folder: Path) -> None:
    """Have another process, where archsearch cannot be imported, load all that was written and answer."""
    taken = [row for row in rows if row.refused is None and (folder / row.name / "answers.npy").is_file()]
    jobs = [{"name": r.name, "kind": "timm" if r.stock else "pt2", "folder": str(folder / r.name)} for r in taken]
    ran = subprocess.run(
        [sys.executable, "-I", "-c", _ELSEWHERE],
        input=json.dumps(jobs),
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
    )
    found = json.loads(ran.stdout) if ran.returncode == 0 else {}
    for row in taken:
        off = found.get(row.name, f"the process ended with {ran.returncode}: {ran.stderr[-200:]}")
        if isinstance(off, str):
            row.failures.append(f"loading: {off}")
            continue
        row.loaded_off = off
        if off > TOLERANCE:
            row.failures.append(f"loading: answers differ by {off:.2g}")


def _student(space: Space, task: ImageTask, architecture: Architecture) -> nn.Module:
    """A student as a training might leave it: norm statistics and biases moved."""
    torch.manual_seed(0)
    student = space.build(architecture, task)
    for name, value in student.state_dict().items():
        if value.is_floating_point() and value.ndim < 2:
            value += 0.1 * torch.rand_like(value) * (1 if "running_var" in name else 0.5)
    return student.eval()


def _answers(student: nn.Module, x_BCHW: Tensor) -> Tensor:
    with torch.inference_mode():
        logits_BK: Tensor = student(x_BCHW)
    return logits_BK


def show(rows: Sequence[Row]) -> None:
    titles = f"{'ran':>6}{'params':>8}{'size':>6}{'MACs err':>10}{'loads':>7}{'off':>10}{'ONNX off':>10}{'s':>7}"
    print(f"{'family':<14}{'side':>5}{titles}  failures")
    for row in rows:
        if row.refused is not None:
            print(f"{row.family:<14}{row.side:>5}  refuses {row.refused}")
            continue
        offs = "".join(f"{'-' if off is None else f'{off:.1e}':>10}" for off in (row.loaded_off, row.onnx_off))
        through = ("timm" if row.stock else "pt2") if row.loaded_off is not None else "-"
        counts = f"{f'{row.ran}/{row.members}':>6}{row.params_mismatch:>8}{row.size_mismatch:>6}"
        print(
            f"{row.family:<14}{row.side:>5}{counts}{row.macs_rel_err:>10.1e}{through:>7}{offs}{row.seconds:>7.1f}"
            f"  {'; '.join(row.failures) or 'none'}"
        )
    found = summary(rows)
    print(
        f"{found['families']} families, {found['failures']} failures, {found['params_mismatch']} of {found['members']} "
        f"members with other parameters than counted, MACs off by at most {found['macs_max_rel_err']:.1e}"
    )


if __name__ == "__main__":
    main()
