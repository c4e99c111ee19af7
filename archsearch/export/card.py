"""`README.md`: the student's model card, with the metadata the Hugging Face hub reads. Its numbers were measured.

The text is `card_template.md`, rendered by the hub's own `ModelCard`; what is not known is left out of it.
"""

from __future__ import annotations

import json
from pathlib import Path

from archsearch import domains
from archsearch.data.metrics import METRICS
from archsearch.domains.domain import CardFacts
from archsearch.evaluate import EVALUATION
from archsearch.export.card_figures import evaluation_section, formats_section, judged_by_agreement, limits_section
from archsearch.export.card_metadata import data_name, metadata, teacher_name, title
from archsearch.export.card_students import own_row, students_section
from archsearch.export.card_text import Json, count, listed, plain, table
from archsearch.export.files import CARD, MANIFEST, PICTURE, PREPROCESSING, REPORT
from archsearch.export.folder import last_part, load_config, read_json
from archsearch.request import Budget
from archsearch.unit import written
from archsearch.whole import write_whole

# Metrics that what they are of tells the name of.
_UNNAMED = ("acc", "map")
_TEMPLATE = Path(__file__).with_name("card_template.md")
# Of the manifest, as the template has them.
_PARTS = ("request", "data", "search", "pretrained", "versions", "machine", "seconds")


def write_card(folder: Path, manifest: Json) -> Path:
    """Write `README.md` from what lies in the folder and what the manifest tells; what is not known is left out."""
    path, report = folder / CARD, read_json(folder / REPORT)
    config = load_config(folder)
    domain = domains.of_config(config)
    if not (folder / PREPROCESSING).is_file():
        domain.write_reading(folder, domain.open_task(folder))  # saved before there was one, or by its library
    if report:  # a format that could not be made again has left the folder, and its row is still there
        there = {name: row for name, row in report["formats"].items() if (folder / row["file"]).is_file()}
        report = {**report, "formats": there}
    picture = (folder / PICTURE).is_file()
    text = card(config, manifest, report, read_json(folder / EVALUATION), domain.stock(config), picture=picture)
    write_whole(path, text)
    return path


def card(config: Json, manifest: Json, report: Json, evaluation: Json, stock: bool, *, picture: bool = False) -> str:
    """The card's text.

    Args:
        config: `config.json`.
        manifest: The request and what came of it; empty for a student of unknown origin.
        report: `report.json`, or empty.
        evaluation: `evaluation.json`, or empty.
        stock: Whether plain timm builds the network.
        picture: Whether a picture of several students lies beside it.
    """
    from huggingface_hub import ModelCard

    student, teacher = manifest.get("student", {}), manifest.get("teacher", {})
    domain = domains.of_config(config)
    facts = domain.card(config, report, stock)
    taught = student.get("method", "none") != "none"
    text = ModelCard.from_template(
        metadata(facts, manifest, evaluation),
        template_path=str(_TEMPLATE),
        **{part: manifest.get(part, {}) for part in _PARTS},
        title=title(facts, manifest),
        data_name=data_name(manifest),
        teacher_name=teacher_name(manifest),
        manifest_file=MANIFEST,
        # What it is.
        facts=facts,
        examples=domain.examples,
        agreed=judged_by_agreement(manifest),
        multilabel=_multilabel(facts, report, evaluation),
        student=student,
        taught=taught,
        share=f"{student['params'] / teacher['params']:.2%}" if taught and "params" in teacher else "",
        warnings=[" ".join(warning["detail"].split()) for warning in _warnings(manifest)],
        # Sections of their own.
        evaluation=evaluation_section(manifest, evaluation, domain.examples),
        side_by_side=students_section(manifest, picture=picture),
        use=facts.use,
        formats=formats_section(manifest, report, domain.examples, facts.library),
        limits=limits_section(manifest, report, evaluation, domain.examples),
        # How it came to be.
        facts_of_teacher=_facts_of_teacher(manifest),
        budget=_budget(manifest.get("request", {}).get("budget", {})).describe(),
        verified=bool(manifest.get("verify")),
        left_open=manifest.get("chosen", {}).get("distill"),
        recipe=_recipe(manifest),
        # How it comes to be again.
        yours=_yours(manifest),
        architecture_json=json.dumps(student.get("architecture")),
        # Words.
        number=count,
        plain=plain,
        listed=listed,
        table=table,
    )
    return f"{text}\n"


def _warnings(manifest: Json) -> list[Json]:
    """What was warned of, as far as it is of this student."""
    own = own_row(manifest).get("student")
    return [one for one in manifest.get("warnings", ()) if one.get("student", own) == own]


def _facts_of_teacher(manifest: Json) -> list[list[str]]:
    teacher = manifest.get("teacher")
    if not teacher:
        return []
    known = {
        "name": f"`{teacher_name(manifest)}`",
        "parameters": count(teacher.get("params")),
        "MACs": count(teacher.get("macs")),
        **_reached(teacher, manifest.get("judged_by")),
        "SHA-256 of its weights": f"`{teacher.get('sha256', '')}`",
    }
    return [[key, value] for key, value in known.items() if value.strip("`")]


def _reached(teacher: Json, judge: Json | None) -> dict[str, str]:
    """What the teacher is worth, metric by metric; before results told what judges them it was one of those known."""
    named = {key: metric.describe() for key, metric in METRICS.items()} | ({judge["key"]: judge} if judge else {})
    found = {}
    for key, metric in named.items():
        name = "" if key in _UNNAMED else f"{metric['name']} "
        for split in ("selection", "test"):
            value = teacher.get(f"{split}_{key}")
            if value is not None:
                found[f"{name}on the {split} split"] = written(value, metric["unit"])
    return found


def _recipe(manifest: Json) -> list[list[str]]:
    settings = manifest.get("request", {}).get("distill", {})
    return [[key, f"`{plain(value)}`"] for key, value in settings.items() if value not in (None, [], {})]


def _yours(manifest: Json) -> list[str]:
    """Flags for what lies somewhere else on another machine."""
    request = manifest.get("request", {})
    return [f"--{part}" for part in ("teacher", "data") if {"path", "id"} & request.get(part, {}).keys()]


def _budget(limits: Json) -> Budget:
    """The budget, with a device's profile by its name: the folder it lies in is nobody else's business."""
    return Budget.model_validate({**limits, **({"device": last_part(limits["device"])} if "device" in limits else {})})


def _multilabel(facts: CardFacts, report: Json, evaluation: Json) -> bool:
    """Whether an image may have any number of labels: timm's own folders do not say, what was measured does."""
    judged = report.get("metric") == "map" or "map" in evaluation.get("networks", {}).get("student", {})
    return judged or facts.multilabel
