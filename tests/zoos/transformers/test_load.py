"""Folders of the transformers library: loaded strictly, refused with what to do, begun from with a new head."""

# B batch, K classes

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from archsearch.errors import InvalidRequest, TeacherError
from archsearch.teachers.teacher import fingerprint
from archsearch.zoos.transformers.folder import is_encoder, read_folder
from archsearch.zoos.transformers.load import begin_training, load_folder
from archsearch.zoos.transformers.network import EncoderClassifier
from tests.zoos.transformers.encoders import (
    CLASSES,
    CONFIGS,
    examples,
    minilm,
    task_of,
    write_folder,
    write_tokenizer,
)

FAMILIES = tuple(CONFIGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_becomes_a_frozen_teacher(family: str, tmp_path: Path) -> None:
    labels = {"id2label": {0: "bad", 1: "so so", 2: "good"}, "label2id": {"bad": 0, "so so": 1, "good": 2}}
    stock = write_folder(tmp_path, family, **labels)
    found = load_folder(tmp_path, task_of(family))
    x_B2T = examples(pad_id=CONFIGS[family]["pad_token_id"])
    with torch.no_grad():
        assert found.model(x_B2T).equal(EncoderClassifier(stock)(x_B2T))
    assert (found.num_classes, found.class_names, found.multilabel) == (CLASSES, ("bad", "so so", "good"), None)
    assert (found.vocab_size, found.max_length) == (40, 18 if family == "roberta" else 20)
    assert found.sha256 == fingerprint(EncoderClassifier(stock))
    assert not found.model.training
    assert not any(weight.requires_grad for weight in found.model.parameters())


def test_names_nobody_gave_are_none(tmp_path: Path) -> None:
    write_folder(tmp_path, "bert", problem_type="multi_label_classification")
    found = load_folder(tmp_path)
    assert (found.class_names, found.multilabel) == ((), True)


def edit(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


HEAD = "classifier.weight"
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "no json": (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "holds no mapping"),
    "another family": (lambda f: edit(f, model_type="llama"), "'llama' is no encoder known here; there are BERT"),
    "code of its own": (lambda f: edit(f, auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "a decoder": (lambda f: edit(f, is_decoder=True), "it is a decoder"),
    "quantised": (lambda f: edit(f, quantization_config={"bits": 4}), "save the network in fp32"),
    "no layers": (lambda f: edit(f, num_hidden_layers="2"), "num_hidden_layers"),
    "a width of no heads": (lambda f: edit(f, num_attention_heads=3), "16 is no multiple of 3"),
    "relative positions": (lambda f: edit(f, position_embedding_type="relative_key"), "only absolute"),
    "huge": (lambda f: edit(f, hidden_size=2**40), "hidden_size"),
    "another width": (lambda f: edit(f, intermediate_size=32), "do not fit config.json"),
    "a number for an answer": (lambda f: edit(f, problem_type="regression"), "regression"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "cut short": (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:900]), "cut"),
    "a pickle by the name": (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x02}q\x00."), "pickled"),
    "more weights": (lambda f: rewrite(f, lambda w: w.update(more=torch.ones(2))), "more is not part of it"),
    "fewer weights": (lambda f: rewrite(f, lambda w: w.pop("bert.pooler.dense.bias")), "pooler.dense.bias is missing"),
    "no head": (lambda f: rewrite(f, lambda w: w.pop(HEAD)), "fine-tune it on your texts first"),
    "not finite": (lambda f: rewrite(f, lambda w: w[HEAD].fill_(torch.nan)), "not finite in network.classifier.weight"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no tokenizer's bytes": (lambda f: (f / "tokenizer.json").write_text("{}"), "is no tokenizer"),
    "more tokens": (lambda f: write_tokenizer(f, 41), "knows 41 tokens, the network has embeddings for 40"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "merge_and_unload"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_folder_is_said(wrong: str, tmp_path: Path) -> None:
    write_folder(tmp_path, "bert")
    load_folder(tmp_path, task_of())
    spoil, told = WRONG[wrong]
    spoil(tmp_path)
    with pytest.raises(TeacherError, match=told) as caught:
        load_folder(tmp_path, task_of())
    assert caught.value.field == "teacher.path"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pytorch_model.bin", "pickled weights, which can run code when read; load the network where it was made"),
        ("tf_model.h5", "weights of another library"),
        ("model.safetensors.index.json", "save them in one"),
    ],
)
def test_other_weights_are_refused_by_name_with_what_to_do(name: str, told: str, tmp_path: Path) -> None:
    write_folder(tmp_path, "bert")
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(TeacherError, match=told):
        load_folder(tmp_path)


def test_pickles_beside_the_weights_are_never_read(tmp_path: Path) -> None:
    write_folder(tmp_path, "bert")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02cposix\nsystem\n.")
    load_folder(tmp_path)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (task_of(vocab_size=41), "knows 40 tokens, the data has 41"),
        (task_of(max_length=21), "takes 20 tokens, the data has up to 21; set max_length to 20"),
        (task_of(classes=4), "tells 3 classes apart, the data has 4"),
    ],
)
def test_a_teacher_that_does_not_fit_the_task_is_refused(task: task_of, told: str, tmp_path: Path) -> None:
    write_folder(tmp_path, "bert")
    with pytest.raises(TeacherError, match=told):
        load_folder(tmp_path, task)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_begins_with_the_encoder_and_a_new_head(family: str, tmp_path: Path) -> None:
    stock = EncoderClassifier(write_folder(tmp_path, family))
    first, again, other = (
        begin_training(tmp_path, task_of(family, classes=5, class_names=()), seed) for seed in (1, 1, 2)
    )
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)
    assert first.training
    assert first.get_classifier().out_features == 5
    same = {name for name, value in first.state_dict().items() if value.equal(other.state_dict()[name])}
    body = f"network.{stock.family.body}."
    assert {name for name in first.state_dict() if name.startswith(body)} <= same
    assert all(value.equal(first.state_dict()[name]) for name, value in stock.state_dict().items() if body in name)
    assert first.family.head not in {
        name.removeprefix("network.").rpartition(".")[0] for name in same if "weight" in name
    }


def test_padding_by_another_id_would_misplace_a_robertas_texts(tmp_path: Path) -> None:
    write_folder(tmp_path, "roberta")
    with pytest.raises(TeacherError, match="counts positions by its padding's id 1, the data is padded with 0"):
        load_folder(tmp_path, task_of("bert"))


def test_what_other_heads_left_in_the_file_is_no_hindrance(tmp_path: Path) -> None:
    """A network trained to fill in words has another head, and its encoder lacks the pooler."""
    write_folder(tmp_path, "bert")

    def as_pretrained(weights: dict[str, Any]) -> None:
        for name in [name for name in weights if name.startswith(("classifier.", "bert.pooler."))]:
            del weights[name]
        weights["cls.predictions.bias"] = torch.ones(3)

    rewrite(tmp_path, as_pretrained)
    first, again = (begin_training(tmp_path, task_of(), 1) for _ in range(2))
    assert fingerprint(first) == fingerprint(again)
    rewrite(tmp_path, lambda weights: weights.pop("bert.embeddings.LayerNorm.weight"))
    with pytest.raises(TeacherError, match=r"lacks embeddings\.LayerNorm\.weight"):
        begin_training(tmp_path, task_of(), 1)


def test_a_real_encoder_is_no_teacher_but_the_beginning_of_one() -> None:
    task = task_of(classes=2, class_names=("bad", "good"), max_length=64, vocab_size=30_522)
    with pytest.raises(TeacherError, match=r"archsearch train-teacher --data DATA --from .* --out teacher"):
        load_folder(minilm(), task)
    network = begin_training(minilm(), task, 0).eval()
    # LANGUAGE.md's count of the bare encoder, and the head's.
    assert sum(weight.numel() for weight in network.parameters()) == 22_713_216 + 2 * 384 + 2
    assert read_folder(minilm()).max_length == 512
    stored = load_file(minilm() / "model.safetensors")
    assert network.state_dict()["network.bert.encoder.layer.5.output.dense.weight"].equal(
        stored["encoder.layer.5.output.dense.weight"]
    )


def test_a_folder_is_known_for_whose_it_is(tmp_path: Path) -> None:
    write_folder(tmp_path / "ours", "bert")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "pretrained_cfg": {}}')
    assert is_encoder(tmp_path / "ours")
    assert not is_encoder(tmp_path)
    assert not is_encoder(tmp_path / "nowhere")


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_folder(tmp_path, "bert")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(InvalidRequest, match=r"tokenizers is not installed: pip install 'archsearch\[text\]'"):
        load_folder(tmp_path)
