"""The model card: what the hub reads of it, that its numbers are the measured ones, and that it tells no more."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from jinja2 import Environment, meta

from archsearch import evaluate, export
from archsearch.export import card

CONFIG = {
    "architecture": "cifar_resnet",
    "num_classes": 3,
    "pretrained_cfg": {"input_size": [3, 32, 24], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}
MANIFEST: dict[str, Any] = {
    "request": {
        "kind": "search_and_distill",
        "teacher": {"kind": "local", "path": "/home/somebody/secret/my-teacher"},
        "data": {"kind": "npz", "path": "/home/somebody/secret/pets.npz"},
        "budget": {"params_ratio": 0.1, "macs": 5_000_000},
        "distill": {"method": "kd", "epochs": 17, "temperature": 4.5, "lr": None, "augment": "crop"},
    },
    "teacher": {
        "name": "local-dir:/home/somebody/secret/my-teacher", "sha256": "a1" * 32, "params": 100_000, "macs": 7_654_321,
        "selection_acc": 93.25, "test_acc": 92.5,
    },
    "search": {"candidates_scored": 64, "spaces": ["resnet_cifar", "vit"]},
    "student": {
        "method": "kd", "params": 9_876, "macs": 543_210, "space": "resnet_cifar", "architecture": {"width1": 8},
        "seeds": {"0": 88.0},
    },
    "data": {"sha256": "d4" * 32, "classes": 3, "images": {"train": 1_000, "selection": 200, "test": 300}},
    "versions": {"python": "3.12.0", "archsearch": "9.9", "torch": "2.11"},
    "machine": {"device": "cpu", "threads": 2},
    "seconds": {"search": 12.0, "distill": 345.0},
}  # fmt: skip
STUDENT = {
    "images": 300, "top1_acc": 87.67, "top1_low": 83.5, "top1_high": 90.9, "top5_acc": None, "nll": 0.4321, "ece": 6.5,
    "agreement": 91.11, "kl_to_teacher": 0.0987,
    "per_class": [
        {"name": "cat", "images": 100, "accuracy": 99.0, "confused_with": "dog", "confused": 1},
        {"name": "dog", "images": 100, "accuracy": 64.0, "confused_with": "ox|en", "confused": 30},
        {"name": "ox|en", "images": 100, "accuracy": 100.0, "confused_with": None, "confused": 0},
    ],
    "bins": [{"low": 0.9, "high": 1.0, "images": 300, "confidence": 94.17, "accuracy": 87.67}],
}  # fmt: skip
EVALUATION = {
    "split": "test",
    "data_sha256": "d4" * 32,
    "networks": {
        "student": STUDENT,
        "teacher": {**STUDENT, "top1_acc": 92.5, "agreement": None, "kl_to_teacher": None},
    },
}


def row(file: str, **changes: Any) -> dict[str, Any]:
    return {
        "file": file, "bytes": 123_456, "max_abs_diff": 2.5e-6, "largest_logit": 12.5, "agreement": 100.0,
        "test_acc": 87.67, "points_lost": 0.0, "latency_ms": 0.777, "latency_low_ms": 0.7, "latency_high_ms": 0.8,
        "held_out": {"split": "selection", "images": 200}, "machine": {"processor": "Abacus 9000"},
        "from_file": {"images": 32, "max_abs_diff": 0.0, "same_names": 96.875}, **changes,
    }  # fmt: skip


REPORT = {
    "metric": "acc",
    "test": {"images": 300, "data_sha256": "d4" * 32},
    "latency": {"how": "timed in turn"},
    "formats": {
        "safetensors": row("model.safetensors"),
        "onnx": row("student.onnx"),
        "int8": row("student.int8.onnx", agreement=98.5, points_lost=0.33, test_acc=87.34),
    },
    "missing": {"pt2": "the exporter failed: RuntimeError: no symbolic shape"},
}


def written(**changes: Any) -> str:
    given = {"config": CONFIG, "manifest": MANIFEST, "report": REPORT, "evaluation": EVALUATION, "stock": False}
    return card(**{**given, **changes})


def test_the_hub_reads_its_metadata_and_its_results() -> None:
    data = ModelCard(written()).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("other", "timm", "image-classification")
    assert data.datasets == ["pets.npz"]
    assert "knowledge-distillation" in data.tags
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"accuracy": 87.67, "expected-calibration-error": 6.5, "negative-log-likelihood": 0.432}
    assert {(r.dataset_name, r.dataset_split) for r in data.eval_results} == {("pets.npz", "test")}
    assert data.metrics == sorted(found)


def test_the_template_uses_what_it_is_given_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that is misspelt would be nothing in the text, silently.
    render, given = ModelCard.from_template, set()

    def look(card_data: Any, template_path: str, **values: Any) -> ModelCard:
        given.update(values)
        used = meta.find_undeclared_variables(Environment().parse(Path(template_path).read_text(encoding="utf-8")))
        assert used == given | {"card_data"}
        return render(card_data, template_path, **values)

    monkeypatch.setattr(ModelCard, "from_template", look)
    written()
    assert given


def test_what_looks_like_a_template_is_text() -> None:
    assert "# {{ title }} {% if %} <b>\n" in written(
        manifest={**MANIFEST, "request": {**MANIFEST["request"], "name": "{{ title }} {% if %} <b>"}}
    )


def test_data_with_a_name_no_hub_takes_are_named_in_the_results_alone() -> None:
    request = {**MANIFEST["request"], "data": {"kind": "image_folder", "path": "/data/my pets (2).zip"}}
    data = ModelCard(written(manifest={**MANIFEST, "request": request})).data
    assert data.datasets is None
    assert {(r.dataset_type, r.dataset_name) for r in data.eval_results} == {("my-pets-2-.zip", "my pets (2).zip")}


@pytest.mark.parametrize(
    "told",
    [
        "87.67 % (83.50–90.90)", "92.50 %", "91.11 %", "0.10", "6.50 %", "0.43",  # the evaluation
        "9,876", "100,000", "7,654,321", "9.88% of its size",  # sizes
        "1,000 for train, 200 for selection, 300 for test", "d4d4d4", "a1a1a1", "93.25 %",  # data and teacher
        "`student.int8.onnx` | 123,456 | 2.5e-06 of 12.50 | 98.50 % | 87.34 % | 0.78 ms (0.70–0.80)", "Abacus 9000",
        "pt2`: the exporter failed", "loses 0.33 points", "Of 32 images read from files",
        "96.88 % (`student.int8.onnx`)",
        "macs ≤ 5000000 and params_ratio ≤ 0.1", "64 candidates of resnet_cifar, vit", "| epochs | `17` |",
        "| temperature | `4.5` |", 'Architecture (`resnet_cifar`): width1 8.',
        "94.17 % sure and 87.67 % right: too sure", "“dog” 64.00 % of 100, most often taken for “ox|en”",
        "One training from one seed",
        "archsearch distill --request manifest.json", "archsearch==9.9", "python 3.12.0", "distill 345 s", "threads 2",
        "3 classes apart in images of 32×24 pixels and 3 channels",
    ],
)  # fmt: skip
def test_it_tells(told: str) -> None:
    assert told in written()


def test_it_tells_nothing_that_was_not_measured() -> None:
    text = written(manifest={}, report={}, evaluation={})
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Use", "## Limits"]
    assert "None" not in text
    assert "datasets" not in text
    assert "licence is not decided here" in text


def test_folders_of_whoever_made_it_stay_out() -> None:
    assert "somebody" not in written()
    assert "`my-teacher`" in written()


def test_a_row_without_a_teacher_stands_beside_the_others() -> None:
    evaluation = copy.deepcopy(EVALUATION)
    evaluation["networks"]["no_teacher"] = {**STUDENT, "top1_acc": 81.25}
    lines = written(evaluation=evaluation).splitlines()
    (line,) = [line for line in lines if "without a teacher" in line]
    assert "9,876" in line, "it is the same network"
    assert "81.25 %" in line


def test_seeds_are_told() -> None:
    manifest = {**MANIFEST, "student": {**MANIFEST["student"], "seeds": {"0": 88.0, "1": 90.5, "2": 89.0}}}
    assert "The best of 3 seeds on the selection split, where they reach 88.00 to 90.50 %." in written(
        manifest=manifest
    )


def test_a_student_taught_by_nobody_claims_no_teacher() -> None:
    manifest = {**MANIFEST, "student": {**MANIFEST["student"], "method": "none"}}
    assert "distilled from" not in written(manifest=manifest)


def test_columns_survive_names_with_bars() -> None:
    evaluation = {"split": "test", "networks": {"a|b": STUDENT}}
    lines = [line for line in written(evaluation=evaluation).splitlines() if "a\\|b" in line]
    assert len(lines) == 1


def test_a_stock_student_is_loaded_without_us() -> None:
    assert "import archsearch.models" in written()
    assert "import archsearch" not in written(stock=True)


@pytest.mark.parametrize(("channels", "mode"), [(1, "in grey"), (3, "in RGB"), (4, None)])
def test_images_are_read_with_as_many_channels_as_the_student_takes(channels: int, mode: str | None) -> None:
    pretrained = {"input_size": [channels, 8, 6], "mean": [0.5] * channels, "std": [0.5] * channels}
    text = written(config={**CONFIG, "pretrained_cfg": pretrained})
    if mode is None:
        assert "np.load" in text
        assert "Photos" not in text
    else:
        assert f"{mode}, 8×6 pixels (bicubic)" in text
        assert "np.load" not in text


@pytest.mark.parametrize(
    ("mode", "told"), [("center", "centre is taken"), ("border", "white beside"), ("squash", "stretched")]
)
def test_it_says_how_photos_of_another_shape_are_made_to_fit(mode: str, told: str) -> None:
    assert told in written(config={**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], "crop_mode": mode}})


def test_files_of_before_they_normalised_are_not_given_new_code() -> None:
    report = copy.deepcopy(REPORT)
    del report["formats"]["onnx"]["from_file"]
    text = written(report=report)
    assert "open_student" not in text
    assert "`student.onnx` take normalised floats" in text


def test_no_dictionary_is_printed() -> None:
    losses = {"kd": {"weight": 0.9, "temperature": 4.0}, "at": {"weight": 500.0}}
    student = {**MANIFEST["student"], "losses": losses, "labels": 0.1}
    distill = {**MANIFEST["request"]["distill"], "losses": losses, "milestones": [0.5, 0.75]}
    text = written(manifest={**MANIFEST, "student": student, "request": {**MANIFEST["request"], "distill": distill}})
    assert "Losses: kd (weight 0.9, temperature 4); at (weight 500), beside the labels with weight 0.1." in text
    assert "| milestones | `0.5, 0.75` |" in text
    method = text.partition("## Method")[2].partition("## Limits")[0]
    assert "{" not in method


def test_a_multi_label_student_has_other_columns_and_no_confusion() -> None:
    row = {
        "images": 300, "map": 71.5, "nll": 1.5, "ece": 3.25, "agreement": 95.0, "kl_to_teacher": 0.5,
        "bins": STUDENT["bins"],
        "per_label": [
            {"name": "sea", "images": 10, "average_precision": 40.0},
            {"name": "sky", "images": 200, "average_precision": 90.0},
            {"name": "snow", "images": 0, "average_precision": None},
        ],
    }  # fmt: skip
    report = copy.deepcopy(REPORT)
    report["metric"] = "map"
    for one in report["formats"].values():
        one["test_map"] = one.pop("test_acc")
    text = written(evaluation={"split": "test", "networks": {"student": row}}, report=report)
    assert "71.50 %" in text
    assert "mAP on the test split" in text
    assert "share of labels answered the same" in text
    assert "knows 3 labels in images" in text
    assert "Wilson" not in text
    assert evaluate.CONFUSION not in text
    assert "Weakest labels by average precision: sea 40.00 % (10 images); sky 90.00 %" in text
    assert "No test image has snow" in text
    assert ModelCard(text).data.eval_results[0].metric_type == "mean-average-precision"


def test_formats_that_were_never_tested_say_so() -> None:
    report = copy.deepcopy(REPORT)
    noise = {"split": "noise", "images": 64}
    report["formats"] = {"onnx": row("student.onnx", test_acc=None, points_lost=None, held_out=noise)}
    text = written(report=report)
    assert "not measured" in text
    assert "64 images of noise" in text


def test_the_card_is_one_of_the_student_s_files() -> None:
    assert export.CARD in export.FILES


def test_other_data_are_not_called_the_training_s_nor_said_to_be_read_once() -> None:
    assert "which was read once, after everything was decided" in written()
    other = {"data_sha256": "e5" * 32}
    text = written(evaluation={**EVALUATION, **other}, report={**REPORT, "test": {"images": 300, **other}})
    assert text.count(f"on other data (sha256 {'e5' * 32})") == 3, "evaluation, formats, limits"
    assert "once" not in text
    assert {r.dataset_name for r in ModelCard(text).data.eval_results} == {f"other data (sha256 {'e5' * 32})"}


def test_of_data_nobody_knows_nothing_is_claimed() -> None:
    text = written(manifest={})
    assert f"data (sha256 {'d4' * 32})" in text
    assert "other data" not in text
    assert "once" not in text


def test_a_device_s_profile_is_told_by_its_name() -> None:
    budget = {"latency_ms": 5, "device": "/home/somebody/board.json"}
    text = written(manifest={**MANIFEST, "request": {**MANIFEST["request"], "budget": budget}})
    assert "latency_ms ≤ 5.0 on board.json" in text
    assert "somebody" not in text


def test_what_nobody_checked_is_not_claimed() -> None:
    assert "another split" not in written()
    assert "same source" not in written()


def test_formats_timed_on_several_machines_say_which() -> None:
    report = copy.deepcopy(REPORT)
    report["formats"]["onnx"]["machine"] = {"processor": "Slide Rule 2"}
    assert "on Abacus 9000 (`model.safetensors`, `student.int8.onnx`); Slide Rule 2 (`student.onnx`)" in written(
        report=report
    )


def test_a_matrix_too_large_to_draw_is_not_shown() -> None:
    assert evaluate.CONFUSION in written()
    student = {**STUDENT, evaluate.CELLS: [[0, 1, 3]]}
    assert evaluate.CONFUSION not in written(evaluation={**EVALUATION, "networks": {"student": student}})


def test_what_its_maker_was_warned_of_stands_before_the_figures() -> None:
    warnings = [{"code": "degraded", "detail": "close to\nguessing"}, {"code": "odd", "detail": "the data are odd"}]
    text = written(manifest={**MANIFEST, "warnings": warnings})
    assert "> **Warning**\n>\n> - close to guessing\n> - the data are odd\n" in text
    assert text.index("**Warning**") < text.index("## Evaluation")
    assert "Warning" not in written()


def test_a_network_with_weights_is_told_where_it_meets_the_budget_or_is_what_the_student_began_as() -> None:
    best = {"network": "mobilenetv3_small_050.lamb_in1k", "params": 580_000, "macs": 12_300_000, "score": -0.525}
    told = " ".join(written(manifest={**MANIFEST, "pretrained": {"best": best}}).split())
    assert "already, before any training here: `mobilenetv3_small_050.lamb_in1k`, of 580,000 parameters" in told
    assert "and 12,300,000 MACs (-0.53 nats)." in told
    began = {**MANIFEST["student"], "begins_as": best["network"]}
    told = written(manifest={**MANIFEST, "student": began, "pretrained": {"best": best}})
    assert "It began with the weights of `mobilenetv3_small_050.lamb_in1k`." in told
    assert "before any training here" not in told
    assert "with weights" not in written(manifest={**MANIFEST, "pretrained": {"best": None, "why": "none"}})
