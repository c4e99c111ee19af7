"""`README.md`: the student's model card, with the metadata the Hugging Face hub reads. Its numbers were measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from archsearch.evaluate import CALIBRATION, CELLS, CONFUSION, EVALUATION
from archsearch.export.files import CARD, MANIFEST, ONNX, PT2, REPORT
from archsearch.export.folder import MULTILABEL, last_part, load_config, read_json
from archsearch.request import Budget

Json = Mapping[str, Any]

_CALLED = {"student": "**this student**", "teacher": "teacher", "no_teacher": "the same network without a teacher"}
_WORST = 3


def write_card(folder: Path, manifest: Json) -> Path:
    """Write `README.md` from what lies in the folder and what the manifest tells; what is not known is left out."""
    path, report = folder / CARD, read_json(folder / REPORT)
    if report:  # a format that could not be made again has left the folder, and its row is still there
        there = {name: row for name, row in report["formats"].items() if (folder / row["file"]).is_file()}
        report = {**report, "formats": there}
    text = card(load_config(folder), manifest, report, read_json(folder / EVALUATION), _stock(folder))
    path.write_text(text, encoding="utf-8")
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
        _evaluation(manifest, evaluation),
        _usage(config, report, stock, multilabel),
        _formats(manifest, report),
        _data(manifest, multilabel),
        _teacher(manifest),
        _method(manifest),
        _limits(manifest, report, evaluation),
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
        ours = _same_data(manifest, evaluation)
        measured_on = {
            "type": id if ours else "unknown",
            "name": (data or "unknown") if ours else _elsewhere(manifest, evaluation) or "unknown",
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
    share = f" ({student['params'] / teacher['params']:.1%} of its size)" if taught and "params" in teacher else ""
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


def _evaluation(manifest: Json, evaluation: Json) -> str:
    networks = evaluation.get("networks", {})
    if not networks:
        return ""
    images = next(iter(networks.values()))["images"]
    if _same_data(manifest, evaluation):
        once = ", which was read once, after everything was decided" if manifest.get("student") else ""
    else:
        once = _joined(", on ", _elsewhere(manifest, evaluation))
    multilabel = any("map" in row for row in networks.values())
    columns = _MULTILABEL_COLUMNS if multilabel else _COLUMNS
    shown = [(title, show) for title, show in columns if any(show(row) != "" for row in networks.values())]
    rows = [
        [_CALLED.get(name, name), _count(_params(manifest, name)), *(show(row) for _, show in shown)]
        for name, row in networks.items()
    ]
    return (
        f"## Evaluation\n\nOn the {images:,} images of the {evaluation['split']} split{once}."
        + ("" if multilabel else " Intervals are Wilson's, at 95 %.")
        + "\n\n"
        + _table(["", "parameters", *(title for title, _ in shown)], rows)
        + (f"\n\n![Confusion matrix]({CONFUSION})" if _has_confusion(networks) else "")
        + f"\n\n![Reliability diagram]({CALIBRATION})"
    )


def _has_confusion(networks: Json) -> bool:
    """Whether the matrix was drawn: not of labels that are questions of their own, nor of very many classes."""
    student = networks.get("student", {})
    return "per_label" not in student and "map" not in student and CELLS not in student


def _interval(row: Json, name: str) -> str:
    if row.get(f"{name}_acc") is None:
        return ""
    return f"{row[f'{name}_acc']:.2f} % ({row[f'{name}_low']:.1f}–{row[f'{name}_high']:.1f})"


def _percent(key: str) -> Any:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.2f} %"


def _nats(key: str) -> Any:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.4g}"


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("top-1", lambda row: _interval(row, "top1")),
    ("balanced accuracy", _percent("balanced_acc")),
    ("top-5", _percent("top5_acc")),
    ("same answer as the teacher", _percent("agreement")),
    ("KL to the teacher, nats", _nats("kl_to_teacher")),
    ("calibration error", _percent("ece")),
    ("NLL, nats", _nats("nll")),
)
_MULTILABEL_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("mAP (mean average precision)", _percent("map")),
    ("share of labels as the teacher's", _percent("agreement")),
    ("KL to the teacher, nats", _nats("kl_to_teacher")),
    ("calibration error", _percent("ece")),
    ("NLL, nats", _nats("nll")),
)


def _usage(config: Json, report: Json, stock: bool, multilabel: bool) -> str:
    pretrained = config["pretrained_cfg"]
    channels, height, width = pretrained["input_size"]
    mode = {1: "L", 3: "RGB"}.get(channels)
    read = (
        f'image = Image.open("image.png").convert("{mode}")\n'
        f"image = ImageOps.fit(image, ({width}, {height}), Image.Resampling.BICUBIC)\n"
        f"x = np.asarray(image, np.float32).reshape(1, {height}, {width}, {channels}).transpose(0, 3, 1, 2) / 255"
        if mode
        else f'pixels = np.load("image.npy")  # {height}×{width}×{channels}, uint8\n'
        "x = pixels[None].transpose(0, 3, 1, 2).astype(np.float32) / 255"
    )
    prepare = (
        f"{read}\n"
        f"mean, std = (np.array(v, np.float32).reshape(1, {channels}, 1, 1) for v in ({list(pretrained['mean'])}, "
        f"{list(pretrained['std'])}))\n"
        "x = (x - mean) / std"
    )
    pillow = "from PIL import Image, ImageOps\n" if mode else ""
    # Labels that are questions of their own are answered one by one.
    say = "print(1 / (1 + np.exp(-logits)) > 0.5)" if multilabel else "print(logits.argmax(1))"
    ours = "" if stock else "import archsearch.models  # pip install archsearch: names the network to timm\n"
    there = report.get("formats", {})
    blocks = [
        "Pixels in 0–1, less the mean, over the deviation of each channel; images of another size are cut to the shape "
        "from their centre and resized bicubically. In this folder:",
        _code(
            f"import numpy as np\nimport timm\nimport torch\n{pillow}{ours}\n{prepare}\n\n"
            'model = timm.create_model("local-dir:.", pretrained=True).eval()  # from a hub: "hf-hub:owner/name"\n'
            f"with torch.inference_mode():\n    logits = model(torch.from_numpy(x)).numpy()\n{say}"
        ),
    ]
    if "pt2" in there:
        blocks += [
            f"`{PT2}` takes the same images and needs torch alone:",
            _code(f'model = torch.export.load("{PT2}").module()'),
        ]
    if "onnx" in there:
        small = " or the smaller `student.int8.onnx`" if "int8" in there else ""
        blocks += [
            f"With ONNX Runtime and without torch, from `{ONNX}`{small}:",
            _code(
                f"import numpy as np\nimport onnxruntime\n{pillow}\n{prepare}\n\n"
                f'session = onnxruntime.InferenceSession("{ONNX}", providers=["CPUExecutionProvider"])\n'
                f'(logits,) = session.run(None, {{"images": x}})\n{say}'
            ),
        ]
    return "## Use\n\n" + "\n\n".join(blocks)


def _formats(manifest: Json, report: Json) -> str:
    rows = report.get("formats", {})
    if not rows:
        return ""
    score, multilabel = f"test_{report.get('metric')}", report.get("metric") == "map"
    same = "share of labels answered the same" if multilabel else "same answers"
    judged = {"map": "mAP", "balanced_acc": "balanced accuracy"}.get(str(report.get("metric")), "accuracy")
    table = _table(
        ["file", "bytes", "largest difference of a logit", same, f"{judged} on the test split", "latency"],
        [
            [
                f"`{row['file']}`",
                f"{row['bytes']:,}",
                f"{row['max_abs_diff']:.2g} of {row['largest_logit']:.3g}",
                f"{row['agreement']:.2f} %",
                _shown(row.get(score), "{:.2f} %") or "not measured",
                f"{row['latency_ms']:.3g} ms ({row['latency_low_ms']:.3g}–{row['latency_high_ms']:.3g})",
            ]
            for row in rows.values()
        ],
    )
    how = report["latency"]["how"]
    held = {row["held_out"]["split"]: row["held_out"]["images"] for row in rows.values()}
    where = {"noise": "of noise, for want of data"}
    on = " and ".join(f"{count:,} images {where.get(split, f'of the {split} split')}" for split, count in held.items())
    lost = [f"`{name}`: {reason}" for name, reason in report.get("missing", {}).items()]
    test = report.get("test") or {}
    other = "" if _same_data(manifest, test) else _elsewhere(manifest, test)
    return (
        f"## Formats\n\n{table}\n\nDifferences and equal answers are against the fp32 weights in timm, on {on}."
        + (f" Accuracies were measured on {other}." if other else "")
        + f" Latency: {how}{_processors(rows)}."
        + (f"\n\nNot made: {'; '.join(lost)}." if lost else "")
    )


def _processors(rows: Json) -> str:
    """Where the formats were timed: one place, or each with its own, for rows may come from several machines."""
    of: dict[str, list[str]] = {}
    for row in rows.values():
        if processor := row.get("machine", {}).get("processor"):
            of.setdefault(processor, []).append(f"`{row['file']}`")
    if len(of) < 2:
        return "".join(f", on {processor}" for processor in of)
    return ", on " + "; ".join(f"{processor} ({', '.join(files)})" for processor, files in of.items())


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
        "parameters": _count(teacher.get("params")),
        "MACs": _count(teacher.get("macs")),
        "balanced accuracy on the selection split": _shown(teacher.get("selection_balanced_acc"), "{:.2f} %"),
        "balanced accuracy on the test split": _shown(teacher.get("test_balanced_acc"), "{:.2f} %"),
        "on the selection split": _shown(teacher.get("selection_acc", teacher.get("selection_map")), "{:.2f} %"),
        "on the test split": _shown(teacher.get("test_acc", teacher.get("test_map")), "{:.2f} %"),
        "SHA-256 of its weights": f"`{teacher.get('sha256', '')}`",
    }
    return "## Teacher\n\n" + _table(["", ""], [[key, value] for key, value in known.items() if value.strip("`")])


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
    losses = f" Losses: `{json.dumps(student['losses'])}`" if student.get("losses") else ""
    labels = f", beside the labels with weight {student['labels']}." if losses and "labels" in student else ""
    return (
        f"## Method\n\nBudget: {_budget(request.get('budget', {})).describe()}.{made}{checked}\n\n"
        f"Architecture (`{student.get('space')}`): `{json.dumps(student.get('architecture'))}`.\n\n"
        f"Learned by `{student.get('method')}`.{why}{losses}{labels} The recipe{_left_open(manifest)}:\n\n"
        + _table(["", ""], [[key, f"`{_plain(value)}`"] for key, value in recipe.items()])
    )


def _left_open(manifest: Json) -> str:
    """How the data's size decided what the request did not."""
    told = manifest.get("chosen", {}).get("distill")
    return f" ({told})" if told else ""


def _budget(limits: Json) -> Budget:
    """The budget, with a device's profile by its name: the folder it lies in is nobody else's business."""
    return Budget.model_validate({**limits, **({"device": last_part(limits["device"])} if "device" in limits else {})})


def _limits(manifest: Json, report: Json, evaluation: Json) -> str:
    """What the numbers do not say; each sentence only where it is known to hold."""
    lines = []
    student, data = evaluation.get("networks", {}).get("student"), manifest.get("data", {})
    if student:
        where = "" if _same_data(manifest, evaluation) else _joined(", on ", _elsewhere(manifest, evaluation))
        lines.append(
            f"Measured on the {student['images']:,} images of the {evaluation['split']} split{where}, and on nothing "
            "else."
        )
    if data:
        lines.append(
            f"What is chosen after a training (the seed, if there are several; how int8 is scaled) was chosen on the "
            f"{data['images']['selection']:,} images of the selection split."
        )
    if manifest.get("student"):
        lines.append(_seeds(manifest["student"]))
    lines += _weak_classes(student) if student else []
    lines += _calibration(student) if student else []
    int8 = report.get("formats", {}).get("int8")
    if int8:
        lost = _shown(int8.get("points_lost"), "loses {:.2f} points on the test split and ")
        machine = int8.get("machine", {}).get("processor", "an unknown processor")
        lines.append(
            f"The int8 file {lost}was measured on {machine}; x86 processors without VNNI add 8-bit products with "
            "saturation, and may lose more."
        )
    lines.append(
        "The licence is not decided here: it follows from the teacher's, from the data's, and from what you choose."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _seeds(student: Json) -> str:
    seeds = student.get("seeds") or {}
    if len(seeds) > 1:
        accs = sorted(seeds.values())
        span = f"{accs[0]:.2f} to {accs[-1]:.2f} %"
        return f"The best of {len(seeds)} seeds on the selection split, where they reach {span}."
    return "One training from one seed: the intervals are those of the test images, not of another training."


def _weak_classes(student: Json) -> list[str]:
    if "per_label" in student:
        return _weak_labels(student)
    rows = [row for row in student["per_class"] if row["accuracy"] is not None]
    worst = [row for row in sorted(rows, key=lambda row: row["accuracy"])[:_WORST] if row["accuracy"] < 100]
    if not worst:
        return []
    told = "; ".join(
        f"“{row['name']}” {row['accuracy']:.1f} % of {row['images']:,}, most often taken for “{row['confused_with']}”"
        for row in worst
    )
    return [f"Weakest classes: {told}."]


def _weak_labels(student: Json) -> list[str]:
    rows = [row for row in student["per_label"] if row["average_precision"] is not None]
    worst = sorted(rows, key=lambda row: row["average_precision"])[:_WORST]
    told = "; ".join(f"{row['name']} {row['average_precision']:.1f} % ({row['images']:,} images)" for row in worst)
    absent = [row["name"] for row in student["per_label"] if row["average_precision"] is None]
    unseen = f" No test image has {', '.join(absent)}: nothing is known of them." if absent else ""
    return [f"Weakest labels by average precision: {told}.{unseen}"]


def _calibration(student: Json) -> list[str]:
    bins = student.get("bins", [])
    images = sum(bin["images"] for bin in bins)
    if not images:
        return []
    confidence, accuracy = (
        sum(bin[key] * bin["images"] for bin in bins) / images for key in ("confidence", "accuracy")
    )
    if "per_label" in student:
        told = f"it gives a label {confidence:.1f} %, and {accuracy:.1f} % are there"
    else:
        far = abs(confidence - accuracy) > 1
        way = ": too sure of itself" if confidence > accuracy else ": less sure than it could be"
        told = f"it is {confidence:.1f} % sure and {accuracy:.1f} % right{way if far else ''}"
    return [
        f"On average {told} (expected calibration error {student['ece']:.2f} %). Its probabilities were not calibrated "
        "afterwards."
    ]


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
        else f"\n\nThe same architecture, without the search:\n\n{_code(same, 'sh')}"
    )
    return (
        f"## Reproduction\n\n`{MANIFEST}` holds the whole request, with its seeds{where}:\n\n"
        f"{_code(command, 'sh')}{search}\n\nMade with {told[0]}; on {told[1]}; in {told[2]}."
    )


def _title(config: Json, manifest: Json) -> str:
    name = manifest.get("request", {}).get("name")
    data = _data_name(manifest)
    return str(name or f"{config['architecture']}{f' for {data}' if data else ''}")


def _multilabel(config: Json, report: Json, evaluation: Json) -> bool:
    """Whether an image may have any number of labels: timm's own folders do not say, what was measured does."""
    judged = report.get("metric") == "map" or "map" in evaluation.get("networks", {}).get("student", {})
    return judged or config.get("problem_type") == MULTILABEL


def _same_data(manifest: Json, measured: Json) -> bool:
    """Whether something was measured on the data the student was made from."""
    sha256 = manifest.get("data", {}).get("sha256")
    return sha256 is not None and measured.get("data_sha256") == sha256


def _elsewhere(manifest: Json, measured: Json) -> str:
    """Which other data something was measured on, as far as that is known."""
    sha256 = measured.get("data_sha256")
    if sha256 is None:
        return ""
    return f"{'other ' if manifest.get('data') else ''}data (sha256 {sha256})"


def _joined(words: str, what: str) -> str:
    return words + what if what else ""


def _data_name(manifest: Json) -> str | None:
    """What the data are called: never the folder they lie in."""
    data = manifest.get("request", {}).get("data")
    if not data:
        return None
    return str(last_part(data["path"]) if "path" in data else data.get("id") or data["kind"])


def _teacher_name(manifest: Json) -> str:
    name = str(manifest.get("teacher", {}).get("name", "its teacher"))
    return last_part(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else name


def _params(manifest: Json, name: str) -> Any:
    return manifest.get("teacher" if name == "teacher" else "student", {}).get("params")


def _count(number: Any) -> str:
    return "" if number is None else f"{number:,}"


def _shown(value: Any, how: str) -> str:
    return "" if value is None else how.format(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _code(text: str, language: str = "python") -> str:
    return f"```{language}\n{text}\n```"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A name with a bar in it would be a column of its own.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _stock(folder: Path) -> bool:
    """Whether plain timm builds the folder's network: it is not one of ours."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    module = timm.model_entrypoint(load_config(folder)["architecture"]).__module__
    return not module.startswith("archsearch.")
