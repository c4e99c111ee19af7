"""`README.md`: the student's model card, with the metadata the Hugging Face hub reads. Its numbers were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from archsearch.evaluate import EVALUATION
from archsearch.export.card_figures import elsewhere, evaluation_section, formats_section, limits_section, same_data
from archsearch.export.card_text import Json, code, count, listed, plain, shown, table
from archsearch.export.card_use import use_section
from archsearch.export.files import CARD, MANIFEST, PREPROCESSING, REPORT
from archsearch.export.folder import MULTILABEL, last_part, load_config, load_task, read_json, write_reading
from archsearch.request import Budget
from archsearch.whole import write_whole


def write_card(folder: Path, manifest: Json) -> Path:
    """Write `README.md` from what lies in the folder and what the manifest tells; what is not known is left out."""
    path, report = folder / CARD, read_json(folder / REPORT)
    if not (folder / PREPROCESSING).is_file():  # saved before there was one, or by timm
        write_reading(folder, load_task(folder))
    if report:  # a format that could not be made again has left the folder, and its row is still there
        there = {name: row for name, row in report["formats"].items() if (folder / row["file"]).is_file()}
        report = {**report, "formats": there}
    text = card(load_config(folder), manifest, report, read_json(folder / EVALUATION), _stock(folder))
    write_whole(path, text)
    return path


def card(config: Json, manifest: Json, report: Json, evaluation: Json, stock: bool) -> str:
    """The card's text.

    Args:
        config: `config.json`.
        manifest: The request and what came of it; empty for a student of unknown origin.
        report: `report.json`, or empty.
        evaluation: `evaluation.json`, or empty.
        stock: Whether plain timm builds the network.
    """
    multilabel = _multilabel(config, report, evaluation)
    sections = (
        _front_matter(config, manifest, evaluation),
        _opening(config, manifest, multilabel),
        _warnings(manifest),
        evaluation_section(manifest, evaluation),
        use_section(config, report, stock),
        formats_section(manifest, report),
        _data(manifest, multilabel),
        _teacher(manifest),
        _method(manifest),
        limits_section(manifest, report, evaluation),
        _reproduction(manifest),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(config: Json, manifest: Json, evaluation: Json) -> str:
    data, student = _data_name(manifest), evaluation.get("networks", {}).get("student")
    head: dict[str, Any] = {
        "license": "other",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "knowledge-distillation", "archsearch"],
    }
    # The hub takes words that could be ids of its own; what the data are called goes into the results as it is.
    id = re.sub(r"[^A-Za-z0-9._-]+", "-", data or "unknown").strip("-")
    if data == id:
        head["datasets"] = [data]
    if student:
        metrics = [
            {"type": kind, "name": name, "value": round(student[key], 3)}
            for key, kind, name in _METRICS
            if student.get(key) is not None
        ]
        head["metrics"] = sorted({metric["type"] for metric in metrics})
        ours = same_data(manifest, evaluation)
        measured_on = {
            "type": id if ours else "unknown",
            "name": (data or "unknown") if ours else elsewhere(manifest, evaluation) or "unknown",
            "split": evaluation["split"],
        }
        result = {"task": {"type": "image-classification"}, "dataset": measured_on, "metrics": metrics}
        head["model-index"] = [{"name": _title(config, manifest), "results": [result]}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


_METRICS = (
    ("top1_acc", "accuracy", "Top-1 accuracy (%)"),
    ("balanced_acc", "balanced-accuracy", "Balanced accuracy (%)"),
    ("top5_acc", "top-5-accuracy", "Top-5 accuracy (%)"),
    ("map", "mean-average-precision", "Mean average precision (%)"),
    ("ece", "expected-calibration-error", "Expected calibration error (%)"),
    ("nll", "negative-log-likelihood", "Negative log-likelihood (nats)"),
)


def _opening(config: Json, manifest: Json, multilabel: bool) -> str:
    student, teacher = manifest.get("student", {}), manifest.get("teacher", {})
    size = f" with {student['params']:,} parameters and {student['macs']:,} MACs" if "params" in student else ""
    taught = f", distilled from `{_teacher_name(manifest)}`" if student.get("method", "none") != "none" else ""
    share = f" ({student['params'] / teacher['params']:.2%} of its size)" if taught and "params" in teacher else ""
    channels, height, width = config["pretrained_cfg"]["input_size"]
    classes = config["num_classes"]
    does = f"knows {classes} labels" if multilabel else f"tells {classes} classes apart"
    return (
        f"# {_title(config, manifest)}\n\nA `{config['architecture']}`{size}{taught}{share}. It {does} in images of "
        f"{height}×{width} pixels and {channels} channel{'' if channels == 1 else 's'}."
    )


def _warnings(manifest: Json) -> str:
    """What its maker was warned of, before any figure: whoever takes the student has to know it too."""
    told = [f"> - {' '.join(warning['detail'].split())}" for warning in manifest.get("warnings", ())]
    return "\n".join(["> **Warning**", ">", *told]) if told else ""


def _data(manifest: Json, multilabel: bool) -> str:
    data = manifest.get("data")
    if not data:
        return ""
    images = ", ".join(f"{count:,} for {split}" for split, count in data["images"].items())
    return (
        f"## Data\n\n{_data_name(manifest) or 'Data'}: {data['classes']} {'labels' if multilabel else 'classes'}; "
        f"images: {images}. SHA-256 over all splits: `{data['sha256']}`."
    )


def _teacher(manifest: Json) -> str:
    teacher = manifest.get("teacher")
    if not teacher:
        return ""
    known = {
        "name": f"`{_teacher_name(manifest)}`",
        "parameters": count(teacher.get("params")),
        "MACs": count(teacher.get("macs")),
        "balanced accuracy on the selection split": shown(teacher.get("selection_balanced_acc"), "{:.2f} %"),
        "balanced accuracy on the test split": shown(teacher.get("test_balanced_acc"), "{:.2f} %"),
        "on the selection split": shown(teacher.get("selection_acc", teacher.get("selection_map")), "{:.2f} %"),
        "on the test split": shown(teacher.get("test_acc", teacher.get("test_map")), "{:.2f} %"),
        "SHA-256 of its weights": f"`{teacher.get('sha256', '')}`",
    }
    return "## Teacher\n\n" + table(["", ""], [[key, value] for key, value in known.items() if value.strip("`")])


def _method(manifest: Json) -> str:
    request, student, search = (manifest.get(part, {}) for part in ("request", "student", "search"))
    if not request:
        return ""
    recipe = {key: value for key, value in request.get("distill", {}).items() if value not in (None, [], {})}
    made = (
        f" The architecture is the best of {search['candidates_scored']:,} candidates of "
        f"{', '.join(search['spaces'])} by a score without training."
        if search
        else ""
    )
    checked = " The best of them were distilled briefly, and it came out first." if manifest.get("verify") else ""
    why = f" {student['why']}" if student.get("why") else ""
    losses = _losses(student)
    return (
        f"## Method\n\nBudget: {_budget(request.get('budget', {})).describe()}.{made}{checked}\n\n"
        f"Architecture (`{student.get('space')}`): {listed(student.get('architecture') or {})}.\n\n"
        f"Learned by `{student.get('method')}`.{why}{losses} The recipe{_left_open(manifest)}:\n\n"
        + table(["", ""], [[key, f"`{plain(value)}`"] for key, value in recipe.items()])
    )


def _left_open(manifest: Json) -> str:
    """How the data's size decided what the request did not."""
    told = manifest.get("chosen", {}).get("distill")
    return f" ({told})" if told else ""


def _losses(student: Json) -> str:
    """Every loss with its weight and settings, and what the labels count beside them."""
    if not student.get("losses"):
        return ""
    told = "; ".join(f"{name} ({listed(settings)})" for name, settings in student["losses"].items())
    beside = f", beside the labels with weight {plain(student['labels'])}" if "labels" in student else ""
    return f" Losses: {told}{beside}."


def _budget(limits: Json) -> Budget:
    """The budget, with a device's profile by its name: the folder it lies in is nobody else's business."""
    return Budget.model_validate({**limits, **({"device": last_part(limits["device"])} if "device" in limits else {})})


def _reproduction(manifest: Json) -> str:
    if not manifest.get("request"):
        return ""
    student, versions = manifest.get("student", {}), manifest.get("versions", {})
    command = (
        f"pip install archsearch=={versions.get('archsearch')}\narchsearch distill --request {MANIFEST} --out again"
    )
    same = (
        f"archsearch distill --request {MANIFEST} --space {student.get('space')} "
        f"--architecture '{json.dumps(student.get('architecture'))}' --out again"
    )
    elsewhere = [
        f"--{part}"
        for part in ("teacher", "data")
        if "path" in manifest["request"][part] or "id" in manifest["request"][part]
    ]
    where = f" (give {' and '.join(elsewhere)} where yours are)" if elsewhere else ""
    told = [
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in manifest.get("machine", {}).items()),
        ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in manifest.get("seconds", {}).items()),
    ]
    search = (
        ""
        if manifest["request"]["kind"] == "distill"
        else f"\n\nThe same architecture, without the search:\n\n{code(same, 'sh')}"
    )
    return (
        f"## Reproduction\n\n`{MANIFEST}` holds the whole request, with its seeds{where}:\n\n"
        f"{code(command, 'sh')}{search}\n\nMade with {told[0]}; on {told[1]}; in {told[2]}."
    )


def _title(config: Json, manifest: Json) -> str:
    name = manifest.get("request", {}).get("name")
    data = _data_name(manifest)
    return str(name or f"{config['architecture']}{f' for {data}' if data else ''}")


def _multilabel(config: Json, report: Json, evaluation: Json) -> bool:
    """Whether an image may have any number of labels: timm's own folders do not say, what was measured does."""
    judged = report.get("metric") == "map" or "map" in evaluation.get("networks", {}).get("student", {})
    return judged or config.get("problem_type") == MULTILABEL


def _data_name(manifest: Json) -> str | None:
    """What the data are called: never the folder they lie in."""
    data = manifest.get("request", {}).get("data")
    if not data:
        return None
    return str(last_part(data["path"]) if "path" in data else data.get("id") or data["kind"])


def _teacher_name(manifest: Json) -> str:
    name = str(manifest.get("teacher", {}).get("name", "its teacher"))
    return last_part(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else name


def _stock(folder: Path) -> bool:
    """Whether plain timm builds the folder's network: it is not one of ours."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    module = timm.model_entrypoint(load_config(folder)["architecture"]).__module__
    return not module.startswith("archsearch.")
