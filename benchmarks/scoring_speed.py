"""What scoring a candidate costs: beside the published teacher-aware procedure, and beside the bare pass.

    python -m benchmarks.scoring_speed [--device cuda] [--networks 12 | --all] [--repeats 3] [--json FILE]

The networks are DisWOT's S1, 64 ResNets for 32×32 images of 100 classes; images are noise, so no data are needed.
Everything is measured in one run, in turns for each network, because a machine that others use is a noisy one:

    reference    DisWOT as its authors run it (`diswot` below says what that includes)
    floor        forward and backward of the same student with a plain distillation loss and the gradients of all
                 parameters, in our precision and memory format; on CUDA one captured graph, free of launches
    ours         all evidence of the default score, and the score; the teacher's evidence was made once, before
    with build   a search's whole step: cost check, building the network, evidence, score

Of a network's repeats the median counts. Milliseconds are medians over networks; `speedup` (reference over ours) and
`over floor` (ours over floor) are medians of the networks' own ratios. Candidates a second follow from the mean of
`with build`. The peak is how far the process's memory rose when all networks were scored for the first time.

The CUDA path is written and not yet measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, median

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from archsearch.domains.images.task import ImageTask
from archsearch.evidence import TEMPERATURE, NetworkEvidence, observe_student, observe_teacher
from archsearch.hardware import Ruler
from archsearch.kernels import softened_kl
from archsearch.memory import keep_freed
from archsearch.models import CifarResNet
from archsearch.precision import Precision, autocast
from archsearch.proxies.score import reads, score
from archsearch.request import Architecture, SearchSpec
from archsearch.search import Bench, Rung, evaluate
from archsearch.spaces import spaces

# B batch, C channels, H W space, K classes, D features

TASK = ImageTask(100, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
SPACE = spaces.get("resnet_cifar")
S1: list[Architecture] = [
    {"depth1": a, "depth2": b, "depth3": c, "width1": 16, "width2": 32, "width3": 64}
    for a, b, c in product((1, 3, 5, 7), repeat=3)
]
TEACHER_DEPTHS = (18, 18, 18)  # ResNet-110
RULER = Ruler(TASK)


@dataclass(frozen=True)
class Row:
    """One network: medians over its repeats, in milliseconds."""

    depths: tuple[int, int, int]
    reference_ms: float
    floor_ms: float
    ours_ms: float
    with_build_ms: float


@dataclass(frozen=True)
class Report:
    """All networks; the ratios are medians of the networks' own."""

    reference_ms: float
    floor_ms: float
    ours_ms: float
    with_build_ms: float
    speedup: float
    over_floor: float
    candidates_per_s: float
    peak_mb: float
    device: str
    precision: str
    threads: int
    batch_size: int
    rows: tuple[Row, ...]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: %(default)s")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--networks", type=int, default=12, help="so many, spread over the 64; default: %(default)s")
    parser.add_argument("--all", action="store_true", help="all 64")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    keep_freed()  # as our own processes do; everyone here has it
    chosen = spread(len(S1) if arguments.all else arguments.networks)
    report = measure(chosen, arguments.device, arguments.precision, arguments.batch_size, arguments.repeats)
    show(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


def spread(count: int) -> list[Architecture]:
    """So many of S1, evenly from the cheapest to the dearest."""
    ordered = sorted(S1, key=lambda architecture: SPACE.cost(architecture, TASK).macs)
    places = torch.linspace(0, len(S1) - 1, min(count, len(S1))).round().int().tolist()
    return [ordered[place] for place in places]


def measure(
    architectures: Sequence[Architecture], device: str, precision: Precision, batch_size: int, repeats: int
) -> Report:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(batch_size, 3, 32, 32, generator=generator).to(device)
    y_B = torch.randint(TASK.classes, (batch_size,), generator=generator).to(device)
    torch.manual_seed(0)
    # Untrained, it has no running statistics worth using: it stays in train mode here, as in the reference.
    teacher = CifarResNet(TEACHER_DEPTHS, num_classes=TASK.classes).to(device).train()
    evidence = observe_teacher(teacher, x_BCHW, y_B, reads())
    bench = Bench(TASK, (Rung(x_BCHW.contiguous(memory_format=torch.channels_last), y_B, evidence, seeds=1),))
    spec = SearchSpec(batch_size=batch_size, precision=precision)
    peak_mb = peak(spec, bench, architectures)
    console = Console(stderr=True)
    rows = [
        time_one(spec, bench, architecture, teacher, x_BCHW, repeats)
        for architecture in track(architectures, "networks", console=console, disable=not sys.stderr.isatty())
    ]
    return Report(
        reference_ms=median(row.reference_ms for row in rows),
        floor_ms=median(row.floor_ms for row in rows),
        ours_ms=median(row.ours_ms for row in rows),
        with_build_ms=median(row.with_build_ms for row in rows),
        speedup=median(row.reference_ms / row.ours_ms for row in rows),
        over_floor=median(row.ours_ms / row.floor_ms for row in rows),
        candidates_per_s=1000 / fmean(row.with_build_ms for row in rows),
        peak_mb=peak_mb,
        device=torch.cuda.get_device_name(device) if x_BCHW.is_cuda else device,
        precision=effective(precision, x_BCHW.device),
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        rows=tuple(rows),
    )


def peak(spec: SearchSpec, bench: Bench, architectures: Sequence[Architecture]) -> float:
    """Megabytes by which memory rises when all networks are scored for the first time.

    On the CPU it is the resident set's high-water mark, so it has to be taken before anything larger runs.
    """
    on_cuda = bench.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(bench.device)
    before = torch.cuda.memory_allocated(bench.device) if on_cuda else _high_water()
    for architecture in architectures:
        trial = evaluate(spec, SPACE, bench, architecture, RULER)
        if trial.score is None:
            sys.exit(f"{architecture} has no score: {trial.reason}")
    after = torch.cuda.max_memory_allocated(bench.device) if on_cuda else _high_water()
    return (after - before) / 2**20


def time_one(
    spec: SearchSpec,
    bench: Bench,
    architecture: Architecture,
    teacher: CifarResNet,
    x_BCHW: Tensor,
    repeats: int,
) -> Row:
    """All four in turns. The reference has a student of its own, in the memory format networks are born with."""
    plain, bare, observed = (SPACE.build(architecture, TASK).to(x_BCHW.device).train() for _ in range(3))
    assert isinstance(plain, CifarResNet)
    bare, observed = (student.to(memory_format=torch.channels_last) for student in (bare, observed))
    (rung,) = bench.rungs
    floor = bare_pass(bare, rung.x, rung.teacher, spec.precision)

    def ours() -> None:
        score(observe_student(observed, rung.x, rung.y_B, rung.teacher, reads(), spec.precision))

    actions: list[Callable[[], object]] = [
        lambda: diswot(teacher, plain, x_BCHW, rung.y_B),
        floor,
        ours,
        lambda: evaluate(spec, SPACE, bench, architecture, RULER),
    ]
    for action in actions:
        action()  # the first pass of each pays for memory
    turns = [[timed(action, x_BCHW.device) for action in actions] for _ in range(repeats)]
    reference_ms, floor_ms, ours_ms, with_build_ms = (median(column) for column in zip(*turns, strict=True))
    depths = (architecture["depth1"], architecture["depth2"], architecture["depth3"])
    return Row(depths, reference_ms, floor_ms, ours_ms, with_build_ms)


def diswot(teacher: CifarResNet, student: CifarResNet, x_BCHW: Tensor, y_B: Tensor) -> float:
    """DisWOT of one candidate (Dong et al. 2023, eq. 3-7), with the work its published code does for one.

    For every candidate the teacher, a ResNet-110, is run again beside the student. Both run forward once, in train
    mode, in fp32 and in the contiguous memory format, and backward once from the cross-entropy to all parameters.
    Semantic: for each class a D×D matrix from the classifier's gradient, K of them a network, normalised by rows, and
    the squared distance between the two networks'. Relation: the same of one B×B matrix of the last map.

    Both proxies come from these same passes, as in the published procedures, of which several leave one proxy out; here
    both are computed. What the published code also spends and this leaves out, all in the reference's favour: building
    the student and drawing its weights from N(0, 1), a new batch for every candidate, copies to the host. Networks here
    keep the weights they are built with, which changes no cost.
    """
    correlations, relations = [], []
    for network in (teacher, student):
        network.zero_grad(set_to_none=True)
        map_BCHW = network.forward_features(x_BCHW)
        cross_entropy(network.forward_head(map_BCHW), y_B).backward()
        gradient_KD = network.get_classifier().get_parameter("weight").grad
        assert gradient_KD is not None
        correlations.append(normalize(torch.bmm(gradient_KD.unsqueeze(2), gradient_KD.unsqueeze(1)), dim=2))
        map_BD = map_BCHW.detach().flatten(1)
        relations.append(normalize(map_BD @ map_BD.T, dim=1))
    classes, width = gradient_KD.shape
    semantic = -(correlations[0] - correlations[1]).square().sum() / (classes * width)
    relation = -(relations[0] - relations[1]).square().sum() / len(x_BCHW) ** 2
    return float(semantic + relation)


def bare_pass(
    student: torch.nn.Module, x_BCHW: Tensor, teacher: NetworkEvidence, precision: Precision
) -> Callable[[], object]:
    """Forward and backward of the distillation loss, ready to run; on CUDA captured as a graph."""

    def run() -> None:
        with autocast(precision, x_BCHW.device):
            logits_BK = student(x_BCHW)
        softened_kl(logits_BK, teacher.logits_BK, TEMPERATURE).backward()

    def run_afresh() -> None:
        student.zero_grad(set_to_none=True)
        run()

    if not x_BCHW.is_cuda:
        return run_afresh
    # Capturing needs a stream of its own and a few passes before, for libraries to choose their kernels.
    stream = torch.cuda.Stream(x_BCHW.device)
    stream.wait_stream(torch.cuda.current_stream(x_BCHW.device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            run_afresh()
    torch.cuda.current_stream(x_BCHW.device).wait_stream(stream)
    # Gradients that do not exist at capture are allocated in the graph's memory, and each replay rewrites them.
    student.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Milliseconds until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


def effective(precision: Precision, device: torch.device) -> str:
    """What a precision comes to on a device."""
    with autocast(precision, device):
        return "bf16" if torch.is_autocast_enabled(device.type) else "fp32"


def show(report: Report) -> None:
    print(f"{report.device}, {report.precision}, {report.threads} threads, batch {report.batch_size}")
    titles = f"{'reference ms':>14}{'floor ms':>10}{'ours ms':>10}{'with build':>12}{'speedup':>9}{'over floor':>12}"
    print(f"{'depths':<8}{titles}")
    for row in report.rows:
        ratios = f"{row.reference_ms / row.ours_ms:>9.2f}{row.ours_ms / row.floor_ms:>12.2f}"
        print(f"{','.join(map(str, row.depths)):<8}{_milliseconds(row)}{ratios}")
    print(f"{'median':<8}{_milliseconds(report)}{report.speedup:>9.2f}{report.over_floor:>12.2f}")
    print(f"{report.candidates_per_s:.1f} candidates a second; memory rises by {report.peak_mb:.0f} MB")


def _milliseconds(row: Row | Report) -> str:
    return f"{row.reference_ms:>14.1f}{row.floor_ms:>10.1f}{row.ours_ms:>10.1f}{row.with_build_ms:>12.1f}"


def _high_water() -> int:
    """Bytes; the resident set's high-water mark, which macOS counts in bytes and others in kilobytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


if __name__ == "__main__":
    main()
