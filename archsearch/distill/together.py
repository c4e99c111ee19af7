"""Training on several devices at once: torchrun starts a process for each, and this one listens.

Everything the processes need lies in a folder as safetensors, arrays and JSON. They die with whoever started them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.task import Dataset
from archsearch.device import kind
from archsearch.distill import checkpoint
from archsearch.distill.progress import Progress
from archsearch.distill.schedule import OptimizerName
from archsearch.distill.train import device_of, train
from archsearch.errors import ArchsearchError, InvalidRequest, TrainingError
from archsearch.memory import keep_freed
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.teachers import Teacher

if TYPE_CHECKING:
    from torch import nn

_LOG_LINES = 15
# Begins the lines that are meant for whoever listens.
_MARK = "archsearch: "


def train_together(
    student: nn.Module,
    dataset: Dataset,
    spec: DistillSpec,
    *,
    teacher: Teacher | None,
    optimizer: OptimizerName,
    checkpoint_path: Path,
    cache: Path | None,
) -> Iterator[Progress]:
    """What `train` does, by `spec.devices` processes. See there; the checkpoint is what the student is read from.

    Raises:
        InvalidRequest: There are fewer GPUs than processes.
        TrainingError: The training failed in a process; its own words, or the end of its log.
    """
    check_machine(spec)
    folder = checkpoint_path.with_suffix(".group")
    job = {
        "spec": spec.model_dump(mode="json"),
        "optimizer": optimizer,
        "checkpoint": str(checkpoint_path.resolve()),
        "cache": None if cache is None else str(cache.resolve()),
    }
    _write(folder, student, dataset, teacher, job)
    yield from _listen(folder, spec.devices)
    shutil.rmtree(folder)
    tensors = checkpoint.tensors(checkpoint_path)
    name = "student/" if spec.ema is None else "average/module."
    student.load_state_dict({key[len(name) :]: value for key, value in tensors.items() if key.startswith(name)})
    student.eval()


def check_machine(spec: DistillSpec, *, field: str = "distill.device") -> None:
    """Raise InvalidRequest, naming the field, unless this machine has what the request wants to train on.

    Args:
        field: That says where it is trained.
    """
    import torch

    where = kind(device_of(spec, field=field))
    if spec.precision == "fp16" and where != "cuda":
        raise InvalidRequest("fp16 needs a GPU; take bf16, fp32 or auto here", field="distill.precision")
    if where == "cuda" and torch.cuda.device_count() < spec.devices:
        raise InvalidRequest(
            f"{spec.devices} GPUs are asked for and {torch.cuda.device_count()} are here", field="distill.devices"
        )


def _write(folder: Path, student: nn.Module, dataset: Dataset, teacher: Teacher | None, job: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder.parent / f"data-{dataset.sha256[:16]}"  # once for all the trainings of a job
    if not (data / domains.RECORD).is_file():
        domains.save_dataset(dataset, data)
    domain = domains.of(dataset.task)
    domain.save(student, dataset.task, folder / "student", teacher)
    if teacher is not None:
        domain.save_teacher(teacher, dataset.task, folder / "teacher")
    known = {**job, "data": str(data.resolve()), "taught": teacher is not None}
    (folder / "job.json").write_text(json.dumps(known))


def _listen(folder: Path, processes: int) -> Iterator[Progress]:
    """Start the processes and pass on what the first of them says, until all are done."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *launcher, "-m", "archsearch.distill.together", str(folder)]
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    assert running.stdout is not None
    problem = None
    try:
        for line in running.stdout:
            if not line.startswith(_MARK):
                continue  # something a library printed
            said = json.loads(line.removeprefix(_MARK))
            if "progress" in said:
                yield Progress(**said["progress"])
            problem = problem or said.get("problem")
        running.wait()
    finally:
        running.terminate()
        running.communicate()
    if problem is not None:
        kind = TrainingError if problem["code"] == TrainingError.code else InvalidRequest
        raise kind(problem["detail"], field=problem.get("field"))
    if running.returncode:
        last = (folder / "log").read_text().splitlines()[-_LOG_LINES:]
        raise TrainingError(f"a training process ended with {running.returncode}: " + "\n".join(last))


def _member(folder: Path) -> None:
    """One of the processes: train one's share, and speak if one is the first."""
    import torch
    import torch.distributed as dist

    threading.Thread(target=_die_with_parent, daemon=True).start()
    keep_freed()
    job = json.loads((folder / "job.json").read_text())
    spec = DistillSpec.model_validate(job["spec"])
    cuda = kind(device_of(spec)) == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    leads = dist.get_rank() == 0
    dataset = domains.open_dataset(Path(job["data"]))
    domain = domains.of(dataset.task)
    # Its outputs are in the data's order already.
    source = LocalTeacher(path=folder / "teacher", classes="as_is")
    teacher = domain.load_teacher(source, None, dataset) if job["taught"] else None
    try:
        for progress in train(
            domain.open(folder / "student"),
            dataset,
            spec,
            teacher=teacher,
            optimizer=job["optimizer"],
            checkpoint_path=Path(job["checkpoint"]),
            cache=None if job["cache"] is None else Path(job["cache"]),
        ):
            if leads:
                _say({"progress": asdict(progress)})
    except ArchsearchError as error:
        _say({"problem": error.problem()})
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def _say(what: dict[str, Any]) -> None:
    # In one piece: the processes share the pipe.
    sys.stdout.write(f"{_MARK}{json.dumps(what)}\n")
    sys.stdout.flush()


def _die_with_parent() -> None:
    """Standard input is the parent's end of a pipe: it ends when the parent does, however that happens."""
    # Past Python's own reader: whoever is forked off meanwhile, to load data, would wait for its lock for ever.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    _member(Path(sys.argv[1]))
