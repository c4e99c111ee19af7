"""What the Hugging Face hub reads of a card: the metadata before its text. And what card and metadata call things."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from archsearch.domains.domain import CardFacts
from archsearch.export.card_figures import elsewhere, judged_by_agreement, same_data
from archsearch.export.card_text import Json
from archsearch.export.folder import last_part

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

# Figures that only some domains tell with what decides.
_BESIDE = ("macro_f1", "mcc")
_METRICS = (
    ("top1_acc", "accuracy", "Top-1 accuracy (%)"),
    ("balanced_acc", "balanced-accuracy", "Balanced accuracy (%)"),
    ("macro_f1", "f1", "Macro-F1 (%)"),
    ("mcc", "matthews_correlation", "Matthews correlation"),
    ("top5_acc", "top-5-accuracy", "Top-5 accuracy (%)"),
    ("map", "mean-average-precision", "Mean average precision (%)"),
    ("ece", "expected-calibration-error", "Expected calibration error (%)"),
    ("nll", "negative-log-likelihood", "Negative log-likelihood (nats)"),
)
_AGREED = (
    ("agreement", "agreement", "Agreement with the teacher (%)"),
    ("kl_to_teacher", "kl-divergence", "KL to the teacher (nats)"),
)


def metadata(facts: CardFacts, manifest: Json, evaluation: Json) -> ModelCardData:
    """Metadata with the student's results, where it was evaluated."""
    from huggingface_hub import ModelCardData

    data, results = data_name(manifest), _results(facts, manifest, evaluation)
    return ModelCardData(
        license="other",
        library_name=facts.library,
        pipeline_tag=facts.pipeline,
        tags=[facts.pipeline, facts.library, "knowledge-distillation", "archsearch"],
        datasets=[data] if data and data == _id(data) else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        model_name=title(facts, manifest) if results else None,
    )


def _results(facts: CardFacts, manifest: Json, evaluation: Json) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    data, student = data_name(manifest) or "unknown", evaluation.get("networks", {}).get("student", {})
    told = {metric["key"] for metric in evaluation.get("beside", ())}
    metrics = _AGREED if judged_by_agreement(evaluation) else _METRICS
    ours = same_data(manifest, evaluation)
    return [
        EvalResult(
            task_type=facts.pipeline,
            dataset_type=_id(data) if ours else "unknown",
            dataset_name=data if ours else elsewhere(manifest, evaluation) or "unknown",
            dataset_split=evaluation["split"],
            metric_type=kind,
            metric_name=name,
            metric_value=round(student[key], 3),
        )
        for key, kind, name in metrics
        if student.get(key) is not None and (key in told or key not in _BESIDE)
    ]


def _id(name: str) -> str:
    """The hub takes words that could be ids of its own; what the data are called goes into the results as it is."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def title(facts: CardFacts, manifest: Json) -> str:
    name = manifest.get("request", {}).get("name")
    data = data_name(manifest)
    return str(name or f"{facts.architecture}{f' for {data}' if data else ''}")


def data_name(manifest: Json) -> str | None:
    """What the data are called: never the folder they lie in."""
    data = manifest.get("request", {}).get("data")
    if not data:
        return None
    return str(last_part(data["path"]) if "path" in data else data.get("id") or data["kind"])


def teacher_name(manifest: Json) -> str:
    name = str(manifest.get("teacher", {}).get("name", "its teacher"))
    return last_part(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else name
