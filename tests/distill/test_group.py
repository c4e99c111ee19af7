from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.group import Group
from archsearch.distill.together import train_together
from archsearch.distill.train import logits
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec
from archsearch.teachers import Teacher, fingerprint

TRAIN = """
import json
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from archsearch.domains.images import load_digits
from archsearch.distill.train import train
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.spaces import spaces
from archsearch.teachers import load_teacher

torch.set_num_threads(1)
out, teacher, name, method, micro = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
if dist.is_torchelastic_launched():
    dist.init_process_group("gloo")
dataset, space = load_digits(), spaces.get(name)
torch.manual_seed(0)
student = space.build(space.smallest(dataset.task), dataset.task)
spec = DistillSpec(
    method=method, epochs=2, batch_size=64, micro_batch=int(micro) or None, precision="fp32", lr=0.02, device="cpu"
)
teacher, kept = load_teacher(LocalTeacher(path=teacher)), {"checkpoint_path": out / "checkpoint.safetensors"}
reports = list(train(student, dataset, spec, teacher=teacher, cache=out, **kept))
leads = not dist.is_initialized() or dist.get_rank() == 0
assert (reports[-1].selection_acc is not None) is leads
if leads:
    (out / "terms.json").write_text(json.dumps(reports[-1].terms))
    save_file({key: value.contiguous() for key, value in student.state_dict().items()}, out / "student.safetensors")
if dist.is_initialized():
    dist.destroy_process_group()
"""


def run(folder: Path, processes: int, teacher: Path, space: str, method: str, micro: int) -> dict[str, torch.Tensor]:
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, folder / "train.py", folder, teacher, space, method, micro]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return load_file(folder / "student.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("space", "method"), [("vit", "kd"), ("resnet_cifar", "fitnet")])
def test_two_processes_train_as_one_on_the_same_batches(
    tmp_path: Path, teacher_folder: Path, space: str, method: str
) -> None:
    """Each process computes half of a batch; one process that computes it in two halves sees the same batch norms."""
    one = run(tmp_path / "one", 1, teacher_folder, space, method, 32)
    two = run(tmp_path / "two", 2, teacher_folder, space, method, 0)
    told = [json.loads((tmp_path / name / "terms.json").read_text()) for name in ("one", "two")]
    assert set(told[0]) == {"labels", method}
    assert told[1] == pytest.approx(told[0], rel=1e-3), "each tells of its half; the mean is told of the whole"
    start = run_start(space)
    weights = [key for key in start if "running" not in key and start[key].is_floating_point()]
    moved = sum(float((one[key] - start[key]).norm()) for key in weights)
    apart = sum(float((one[key] - two[key]).norm()) for key in weights)
    assert moved > 0.1
    assert apart < 1e-3 * moved
    for key, value in one.items():
        if "running" in key:  # one process has moved them twice a batch
            torch.testing.assert_close(two[key], value, rtol=0.5, atol=0.5)


def run_start(name: str) -> dict[str, torch.Tensor]:
    from archsearch.domains.images import load_digits
    from archsearch.spaces import spaces

    task, space = load_digits().task, spaces.get(name)
    torch.manual_seed(0)
    return space.build(space.smallest(task), task).state_dict()


def test_a_batch_parts_into_equal_shares() -> None:
    shares = [Group(rank, 4).share(64, 32) for rank in range(4)]
    assert [(share.start, share.stop) for share in shares] == [(64, 72), (72, 80), (80, 88), (88, 96)]
    assert Group().share(64, 32) == slice(64, 96)
    assert [Group(rank, 4).leads for rank in range(4)] == [True, False, False, False]


TOGETHER = """
import sys
from pathlib import Path
import torch
from archsearch.domains.images import load_digits
from archsearch.distill.together import train_together
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.spaces import spaces
from archsearch.teachers import load_teacher

dataset, space = load_digits(), spaces.get("resnet_cifar")
student = space.build(space.smallest(dataset.task), dataset.task)
spec = DistillSpec(epochs=int(sys.argv[3]), batch_size=64, devices=2, device="cpu")
teacher, path = load_teacher(LocalTeacher(path=sys.argv[2])), Path(sys.argv[1]) / "checkpoint.safetensors"
for report in train_together(
    student, dataset, spec, teacher=teacher, optimizer="sgd", checkpoint_path=path, cache=Path(sys.argv[1])
):
    print(report.step, flush=True)
"""


def digits_student(seed: int = 0) -> torch.nn.Module:
    from archsearch.domains.images import load_digits
    from archsearch.spaces import spaces

    task, space = load_digits().task, spaces.get("resnet_cifar")
    torch.manual_seed(seed)
    return space.build(space.smallest(task), task)


@pytest.mark.slow
def test_a_request_for_two_devices_is_trained_by_two_processes(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    student, spec = digits_student(), DistillSpec(epochs=6, batch_size=64, devices=2, device="cpu", ema=0.5)
    kept = {"checkpoint_path": tmp_path / "checkpoint.safetensors", "cache": tmp_path}
    reports = list(train_together(student, few_digits, spec, teacher=teacher, optimizer="sgd", **kept))
    assert (reports[-1].step, reports[-1].steps) == (24, 24)
    measured = accuracy(partial(logits, student, few_digits.task), few_digits.selection)
    assert measured == reports[-1].selection_acc, "the averaged weights of the checkpoint are the student's"
    again = digits_student()
    assert list(train_together(again, few_digits, spec, teacher=teacher, optimizer="sgd", **kept)) == []
    assert fingerprint(again) == fingerprint(student)


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told_here(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    spec = DistillSpec(epochs=2, batch_size=512, devices=2, device="cpu")
    kept = {"checkpoint_path": tmp_path / "checkpoint.safetensors", "cache": None}
    with pytest.raises(InvalidRequest, match="512 is more than the 256 training examples") as caught:
        list(train_together(digits_student(), few_digits, spec, teacher=teacher, optimizer="sgd", **kept))
    assert caught.value.field == "distill.batch_size"


@pytest.mark.slow
def test_the_processes_die_with_whoever_started_them(teacher_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(tmp_path), str(teacher_folder), "4000"]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    starter.stdout.readline()  # it trains
    members = _members(tmp_path)
    assert len(members) >= 2
    starter.kill()
    starter.wait()
    starter.stdout.close()
    deadline = time.monotonic() + 30
    while _members(tmp_path):
        assert time.monotonic() < deadline, "processes outlived their starter"
        time.sleep(0.2)


def _members(folder: Path) -> list[str]:
    """Processes whose command line names the folder, but for the one that started them."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if "archsearch.distill.together" in words and any(word.startswith(str(folder)) for word in words):
                found.append(process.name)
    return found
