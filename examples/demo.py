"""The main job from end to end, over HTTP: `make demo`, or `make demo-cifar` for CIFAR-100.

Trains a teacher, starts a server, uploads data and teacher, asks for a student under a hard budget, follows the job,
downloads the student, and evaluates it on the test split in a fresh interpreter. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.cli.remote import follow
from archsearch.client import Client
from archsearch.progress import Display, count
from archsearch.teachers import describe_folder
from archsearch.teaching import train_teacher

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Recipe:
    """One demonstration: the data, the teacher and what is asked for."""

    teacher_args: dict[str, Any]
    teacher_spec: dict[str, Any]
    budget: dict[str, Any]
    search: dict[str, Any]
    distill: dict[str, Any]


RECIPES = {
    "digits": Recipe(
        teacher_args={"depths": [3, 3, 3], "widths": [32, 64, 128]},
        teacher_spec={"epochs": 30, "batch_size": 64},
        budget={"params_ratio": 0.1},
        search={"space": "resnet_cifar", "candidates": 64},
        distill={"epochs": 60, "batch_size": 64},
    ),
    "cifar100": Recipe(
        teacher_args={"depths": [9, 9, 9], "widths": [16, 32, 64]},
        teacher_spec={"epochs": 18, "batch_size": 64, "augment": "crop_flip"},
        budget={"params_ratio": 0.35, "macs_ratio": 0.35},
        search={"space": "resnet_cifar", "candidates": 64},
        # A teacher of twenty minutes knows little; its answers help beside the labels and hurt in their place.
        distill={"epochs": 20, "batch_size": 128, "augment": "crop_flip", "method": "kd", "alpha": 0.3},
    ),
}

# What a user of the student runs: nothing of this process is there.
EVALUATE = """
import sys, json, numpy as np, torch
import archsearch
from archsearch.export import load_config
folder, data = sys.argv[1:]
student, config = archsearch.load_student(folder), load_config(folder)["pretrained_cfg"]
arrays = np.load(data)
mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
x = torch.from_numpy(arrays["x_test"]).float() / 255
x = (x[..., None] if x.ndim == 3 else x).permute(0, 3, 1, 2)
with torch.inference_mode():
    answers = torch.cat([student((part - mean) / std).argmax(1) for part in x.split(256)])
print(json.dumps(100 * (answers.numpy() == arrays["y_test"]).mean()))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(RECIPES), default="digits")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="everything goes here; emptied first")
    arguments = parser.parse_args()
    if arguments.data == "cifar100" and not (SHARED / "cifar100_12k.npz").is_file():
        sys.exit(f"{SHARED / 'cifar100_12k.npz'} is not there; this demonstration needs it")
    out: Path = arguments.out / arguments.data
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    # Relative to the working directory, so that the result's path reads the same on every machine.
    print(json.dumps(demonstrate(RECIPES[arguments.data], arguments.data, out)))


def demonstrate(recipe: Recipe, name: str, out: Path) -> dict[str, Any]:
    started = time.monotonic()
    data = out / "data.npz"
    np.savez(data, **(digits() if name == "digits" else cifar100()))

    say("1/5  train a teacher")
    with Display() as display:
        trained = train_teacher(
            {"kind": "npz", "path": data},
            out / "teacher",
            model_args=recipe.teacher_args,
            spec=recipe.teacher_spec,
            listener=display.show,
        )
    say(f"     {count(trained['params'])} parameters, {trained['selection_acc']:.2f} % on the selection split")

    say("2/5  start the server, upload data and teacher")
    with server(out / "server") as client:
        dataset = client.add_dataset(data, "npz", name=name)
        named = {"kind": "dataset", "id": dataset["id"]}
        source = describe_folder(out / "teacher")
        teacher = client.add_teacher(source, weights=out / "teacher" / "model.safetensors", name="demo", data=named)
        known = teacher["facts"]["selection_acc"]
        say(f"     {dataset['id']}, {teacher['id']}: checked, {known:.2f} % on the selection split")

        request = {
            "teacher": {"kind": "teacher", "id": teacher["id"]},
            "data": named,
            "budget": recipe.budget,
            "search": recipe.search,
            "distill": recipe.distill,
        }
        result, baseline = with_and_without_teacher(client, request, out)

    say("5/5  evaluate on the test split, in fresh interpreters")
    return {
        "teacher_acc": round(evaluate(out / "teacher", data), 2),
        "student_acc": round(evaluate(out / "student", data), 2),
        "student_no_teacher_acc": round(evaluate(out / "student-no-teacher", data), 2),
        **figures(result, baseline),
        "teacher_s": round(trained["seconds"], 1),
        "total_s": round(time.monotonic() - started, 1),
        "student": str(out / "student"),
    }


def with_and_without_teacher(client: Client, request: dict[str, Any], out: Path) -> tuple[Any, Any]:
    """Results of the job, and of one that trains its winner on the labels alone; both students are downloaded."""
    say("3/5  ask for a student")
    job = client.submit(request)
    result = follow(client, job["id"])
    client.download(job["id"], out / "student")

    say("4/5  the same student without its teacher, for comparison")
    winner = result["search"]["winner"]
    alone = client.submit(
        {
            **request,
            "kind": "distill",
            "student": {"space": winner["space"], "architecture": winner["architecture"]},
            "distill": {**request["distill"], "method": "none"},
        }
    )
    baseline = follow(client, alone["id"])
    client.download(alone["id"], out / "student-no-teacher")
    return result, baseline


def figures(result: Any, baseline: Any) -> dict[str, Any]:
    """Sizes, counts and seconds of both jobs."""
    return {
        "params_ratio": round(result["student"]["params"] / result["teacher"]["params"], 4),
        "candidates_scored": result["search"]["candidates_scored"],
        "infeasible_scored": result["search"]["infeasible_scored"],
        "search_s": round(result["search"]["seconds"], 1),
        "distill_s": round(result["student"]["seconds"], 1),
        "no_teacher_s": round(baseline["student"]["seconds"], 1),
    }


def digits() -> dict[str, Any]:
    """scikit-learn's handwritten digits, split before anything looks at them."""
    from archsearch.domains.images import load_digits

    found = load_digits()
    splits = {"train": found.train, "selection": found.selection, "test": found.test}
    arrays = {f"x_{name}": split.x_NHWC for name, split in splits.items()}
    return {**arrays, **{f"y_{name}": split.y_N for name, split in splits.items()}}


def cifar100() -> dict[str, Any]:
    """10,000 training and 2,000 test images of CIFAR-100; the server holds its selection split out of the former."""
    stored = np.load(SHARED / "cifar100_12k.npz")

    def images(split: str) -> Any:
        x = np.cumsum(stored[f"x_{split}_delta"], axis=2, dtype=np.uint8)
        x[..., [0, 2]] += x[..., 1:2]
        return x

    return {
        "x_train": images("train"),
        "y_train": stored["y_train"],
        "x_test": images("test"),
        "y_test": stored["y_test"],
        "class_names": stored["fine_names"],
    }


@contextmanager
def server(folder: Path) -> Iterator[Client]:
    """`archsearch serve` on a free port, as long as the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "archsearch", "serve", "--port", str(port), "--data-dir", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            wait_until_up(client, process, folder / "server.log")
            yield client
    finally:
        process.terminate()
        process.wait(15)


def wait_until_up(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    from archsearch.errors import ServiceError

    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"the server ended with code {process.returncode}:\n{log.read_text()}")
        try:
            client.call("GET", "/healthz")
            return
        except ServiceError:
            time.sleep(0.1)
    sys.exit(f"the server did not start in 30 s; see {log}")


def evaluate(folder: Path, data: Path) -> float:
    """Test accuracy in percent, measured in an interpreter of its own."""
    command = [sys.executable, "-c", EVALUATE, str(folder), str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    return float(done.stdout)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
