"""The card's figures: what was measured of the student, of its files, and what the numbers do not say."""

from __future__ import annotations

from typing import Any

from archsearch.data.metrics import ACCURACY, AGREEMENT, METRICS
from archsearch.evaluate import CALIBRATION, CELLS, CONFUSION, MOST_DRAWN
from archsearch.export.card_text import Json, count, joined, milliseconds, table
from archsearch.unit import unit_of, written

_CALLED = {"student": "**this student**", "teacher": "teacher", "no_teacher": "the same network without a teacher"}
_WORST = 3
AGREED = (
    "It is judged by agreement with the teacher, the share of examples whose likeliest class is the teacher's; no "
    "label was seen, and how often either is right nobody knows."
)


def evaluation_section(manifest: Json, evaluation: Json, examples: str) -> str:
    """The networks side by side; `examples` is what people call these."""
    networks = evaluation.get("networks", {})
    if not networks:
        return ""
    images = next(iter(networks.values()))["images"]
    if same_data(manifest, evaluation):
        once = ", which was read once, after everything was decided" if manifest.get("student") else ""
    else:
        once = joined(", on ", elsewhere(manifest, evaluation))
    multilabel = any("map" in row for row in networks.values())
    agreed = judged_by_agreement(evaluation)
    # Every file has these; only where a domain tells them with what decides do they stand here.
    told = {metric["key"] for metric in evaluation.get("beside", ())}
    columns = _MULTILABEL_COLUMNS if multilabel else [one for one in _COLUMNS if told >= _BESIDE.get(one[0], set())]
    columns = _AGREED_COLUMNS if agreed else columns
    shown = [(title, show) for title, show in columns if any(show(row) != "" for row in networks.values())]
    rows = [
        [_CALLED.get(name, name), count(_params(manifest, name)), *(show(row) for _, show in shown)]
        for name, row in networks.items()
    ]
    return (
        f"## Evaluation\n\nOn the {images:,} {examples} of the {evaluation['split']} split{once}."
        + (f" {AGREED}" if agreed else "")
        + ("" if multilabel else " Intervals are Wilson's, at 95 %.")
        + "\n\n"
        + table(["", "parameters", *(title for title, _ in shown)], rows)
        + (f"\n\n![Confusion matrix]({CONFUSION})" if _has_confusion(networks) else "")
        + ("" if agreed else f"\n\n![Reliability diagram]({CALIBRATION})")
    )


def judged_by_agreement(told: Json) -> bool:
    """Whether it was measured where no example has a label."""
    return bool((told.get("judged_by") or {}).get("key") == AGREEMENT.key)


def _has_confusion(networks: Json) -> bool:
    """Whether the matrix was drawn: not of labels that are questions of their own, nor of very many classes."""
    student = networks.get("student", {})
    if "per_label" in student or "map" in student:
        return False
    # Files of before said no number of classes, and wrote cells exactly where nothing was drawn.
    return bool(student["classes"] <= MOST_DRAWN) if "classes" in student else CELLS not in student


def _interval(row: Json, name: str, value: str = "{}_acc") -> str:
    share = row.get(value.format(name))
    return "" if share is None else f"{share:.2f} % ({row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f})"


def _percent(key: str) -> Any:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.2f} %"


def _nats(key: str) -> Any:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.2f}"


def _coefficient(key: str) -> Any:
    return lambda row: "" if row.get(key) is None else f"{row[key]:.3f}"


_BESIDE = {"macro-F1": {"macro_f1"}, "Matthews correlation": {"mcc"}}
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("top-1", lambda row: _interval(row, "top1")),
    ("balanced accuracy", _percent("balanced_acc")),
    ("macro-F1", _percent("macro_f1")),
    ("Matthews correlation", _coefficient("mcc")),
    ("top-5", _percent("top5_acc")),
    ("same answer as the teacher", _percent("agreement")),
    ("KL to the teacher, nats", _nats("kl_to_teacher")),
    ("calibration error", _percent("ece")),
    ("NLL, nats", _nats("nll")),
)
_AGREED_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("same answer as the teacher", lambda row: _interval(row, "agreement", "{}")),
    ("KL to the teacher, nats", _nats("kl_to_teacher")),
)
_MULTILABEL_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("mAP (mean average precision)", _percent("map")),
    ("share of labels as the teacher's", _percent("agreement")),
    ("KL to the teacher, nats", _nats("kl_to_teacher")),
    ("calibration error", _percent("ece")),
    ("NLL, nats", _nats("nll")),
)


def formats_section(manifest: Json, report: Json, examples: str, library: str) -> str:
    """Every file of the student beside the weights as `library` loads them."""
    rows = report.get("formats", {})
    if not rows:
        return ""
    score, multilabel = f"test_{report.get('metric')}", report.get("metric") == "map"
    same = "share of labels answered the same" if multilabel else "same answers"
    known = METRICS.get(str(report.get("metric")), ACCURACY).describe()
    judge, unit = report.get("judged_by") or known, unit_of(report)
    figures = table(
        ["file", "bytes", "largest difference of a logit", same, f"{judge['name']} on the test split", "latency"],
        [
            [
                f"`{row['file']}`",
                f"{row['bytes']:,}",
                f"{row['max_abs_diff']:.2g} of {row['largest_logit']:.2f}",
                f"{row['agreement']:.2f} %",
                "not measured" if row.get(score) is None else written(row[score], unit),
                _latency(row),
            ]
            for row in rows.values()
        ],
    )
    how = report["latency"]["how"]
    held = {row["held_out"]["split"]: row["held_out"]["images"] for row in rows.values()}
    where = {"noise": "of noise, for want of data"}
    on = " and ".join(
        f"{count:,} {examples} {where.get(split, f'of the {split} split')}" for split, count in held.items()
    )
    lost = [f"`{name}`: {reason}" for name, reason in report.get("missing", {}).items()]
    test = report.get("test") or {}
    other = "" if same_data(manifest, test) else elsewhere(manifest, test)
    return (
        f"## Formats\n\n{figures}\n\nDifferences and equal answers are against the fp32 weights in {library}, on {on}."
        + _from_files(rows, examples)
        + (f" What is told of the test split was measured on {other}." if other else "")
        + f" Latency: {how}{_processors(rows)}."
        + (f"\n\nNot made: {'; '.join(lost)}." if lost else "")
    )


def _from_files(rows: Json, examples: str) -> str:
    """Whether examples read from files get the names the student gives in training."""
    read = {row["file"]: row["from_file"] for row in rows.values() if row.get("from_file")}
    if not read:
        return ""
    images = max(one["images"] for one in read.values())
    told = ", ".join(f"{one['same_names']:.2f} % (`{file}`)" for file, one in read.items())
    return f" Of {images:,} {examples} read from files as `predict.py` does, as many get the same name: {told}."


def _latency(row: Json) -> str:
    median, low, high = (milliseconds(row[key]) for key in ("latency_ms", "latency_low_ms", "latency_high_ms"))
    return f"{median} ms ({low}–{high})"


def _processors(rows: Json) -> str:
    """Where the formats were timed: one place, or each with its own, for rows may come from several machines."""
    of: dict[str, list[str]] = {}
    for row in rows.values():
        if processor := row.get("machine", {}).get("processor"):
            of.setdefault(processor, []).append(f"`{row['file']}`")
    if len(of) < 2:
        return "".join(f", on {processor}" for processor in of)
    return ", on " + "; ".join(f"{processor} ({', '.join(files)})" for processor, files in of.items())


def limits_section(manifest: Json, report: Json, evaluation: Json, examples: str) -> str:
    """What the numbers do not say; each sentence only where it is known to hold."""
    lines = []
    student, data = evaluation.get("networks", {}).get("student"), manifest.get("data", {})
    if student:
        where = "" if same_data(manifest, evaluation) else joined(", on ", elsewhere(manifest, evaluation))
        lines.append(
            f"Measured on the {student['images']:,} {examples} of the {evaluation['split']} split{where}, and on "
            "nothing else."
        )
    if data:
        lines.append(
            f"What is chosen after a training (the seed, if there are several; how int8 is scaled) was chosen on the "
            f"{data['images']['selection']:,} {examples} of the selection split."
        )
    if manifest.get("student"):
        lines.append(_seeds(manifest["student"], unit_of(manifest), examples))
    lines += _weak_classes(student, examples) if student else []
    lines += _calibration(student) if student else []
    int8 = report.get("formats", {}).get("int8")
    if int8:
        lost = _lost(int8.get("points_lost"), unit_of(report))
        machine = int8.get("machine", {}).get("processor", "an unknown processor")
        lines.append(
            f"The int8 file {lost}was measured on {machine}; x86 processors without VNNI add 8-bit products with "
            "saturation, and may lose more."
        )
    lines.append(
        "The licence is not decided here: it follows from the teacher's, from the data's, and from what you choose."
    )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _lost(points: float | None, unit: str) -> str:
    if points is None:
        return ""
    return f"loses {f'{points:.2f} points' if unit == '%' else written(points, unit)} on the test split and "


def _seeds(student: Json, unit: str, examples: str) -> str:
    seeds = student.get("seeds") or {}
    if len(seeds) > 1:
        low, high = (written(end(seeds.values()), unit) for end in (min, max))
        span = f"{low.removesuffix(unit).rstrip()} to {high}"
        return f"The best of {len(seeds)} seeds on the selection split, where they reach {span}."
    return f"One training from one seed: the intervals are those of the test {examples}, not of another training."


def _weak_classes(student: Json, examples: str) -> list[str]:
    if "per_label" in student:
        return _weak_labels(student, examples)
    agreed = any("agreement" in row for row in student["per_class"])
    name, what = ("agreement", "Classes of the teacher's") if agreed else ("accuracy", "Weakest classes")
    rows = [row for row in student["per_class"] if row[name] is not None]
    worst = [row for row in sorted(rows, key=lambda row: row[name])[:_WORST] if row[name] < 100]
    if not worst:
        return []
    told = "; ".join(
        f"“{row['name']}” {row[name]:.2f} % of {row['images']:,}, most often taken for “{row['confused_with']}”"
        for row in worst
    )
    return [f"{what}{' that it agrees on least' if agreed else ''}: {told}."]


def _weak_labels(student: Json, examples: str) -> list[str]:
    rows = [row for row in student["per_label"] if row["average_precision"] is not None]
    worst = sorted(rows, key=lambda row: row["average_precision"])[:_WORST]
    told = "; ".join(f"{row['name']} {row['average_precision']:.2f} % ({row['images']:,} {examples})" for row in worst)
    absent = [row["name"] for row in student["per_label"] if row["average_precision"] is None]
    unseen = (
        f" No test {examples.removesuffix('s')} has {', '.join(absent)}: nothing is known of them." if absent else ""
    )
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
        told = f"it gives a label {confidence:.2f} %, and {accuracy:.2f} % are there"
    else:
        far = abs(confidence - accuracy) > 1
        way = ": too sure of itself" if confidence > accuracy else ": less sure than it could be"
        told = f"it is {confidence:.2f} % sure and {accuracy:.2f} % right{way if far else ''}"
    return [
        f"On average {told} (expected calibration error {student['ece']:.2f} %). Its probabilities were not calibrated "
        "afterwards."
    ]


def same_data(manifest: Json, measured: Json) -> bool:
    """Whether something was measured on the data the student was made from."""
    sha256 = manifest.get("data", {}).get("sha256")
    return sha256 is not None and measured.get("data_sha256") == sha256


def elsewhere(manifest: Json, measured: Json) -> str:
    """Which other data something was measured on, as far as that is known."""
    sha256 = measured.get("data_sha256")
    if sha256 is None:
        return ""
    return f"{'other ' if manifest.get('data') else ''}data (sha256 {sha256})"


def _params(manifest: Json, name: str) -> Any:
    return manifest.get("teacher" if name == "teacher" else "student", {}).get("params")
