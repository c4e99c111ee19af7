"""Encoders: every count exact, the largest of a teacher's own kind the teacher itself, and tasks kept apart."""

# B batch, T tokens, K classes

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.domains.text.task import TextTask
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure_model, size_bytes
from archsearch.spaces import Space, choose, of_teacher, spaces, suited
from archsearch.spaces.count import KINDS
from archsearch.testing import SpaceContract
from archsearch.testing.space import TEXTS
from archsearch.zoos.transformers.network import build

BERT = spaces.get("bert")
IMAGES = ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
TASKS = {
    "short": TextTask(classes=2, max_length=12, vocab_size=40, pad_id=0, pair=False),
    "long": TextTask(classes=5, max_length=300, vocab_size=30_522, pad_id=0, pair=True, kind="multilabel"),
}
_OF_BERT = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 128, "intermediate_size": 320}
_ALL = {"vocab_size": 500, "max_position_embeddings": 320, "pad_token_id": 0}
# Sizes as published ones have them, smaller: MiniLM's heads of 32, RoBERTa's one segment, ELECTRA's narrow embeddings.
TEACHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {**_ALL, **_OF_BERT}),
    "another activation": ("bert", {**_ALL, **_OF_BERT, "hidden_act": "relu", "layer_norm_eps": 1e-5}),
    "roberta": ("roberta", {**_ALL, **_OF_BERT, "pad_token_id": 1, "type_vocab_size": 1}),
    "electra": ("electra", {**_ALL, **_OF_BERT, "embedding_size": 64}),
    "electra without projection": ("electra", {**_ALL, **_OF_BERT, "embedding_size": 128}),
    "distilbert": ("distilbert", {**_ALL, "n_layers": 3, "n_heads": 4, "dim": 128, "hidden_dim": 320}),
}


class TestTheContract(SpaceContract):
    spaces = (BERT,)
    tasks = TEXTS


def teacher(name: str, task: TextTask) -> nn.Module:
    family, config = TEACHERS[name]
    with torch.device("meta"):
        return build(family, config, task)


def task_of(name: str) -> TextTask:
    """A task whose texts the teacher reads."""
    config = TEACHERS[name][1]
    return TextTask(classes=3, max_length=24, vocab_size=500, pad_id=config["pad_token_id"], pair=True)


def members(space: Space, task: TextTask, count: int = 2) -> list[dict[str, int]]:
    rng = random.Random(space.name)
    some = [{p.name: rng.choice(p.values) for p in space.parameters(task)} for _ in range(count)]
    return [space.smallest(task), space.largest(task), *some]


def require_counted(space: Space, architecture: dict[str, int], task: TextTask) -> None:
    """Params, MACs, stored bytes and layers, as torch and the network itself have them."""
    with torch.device("meta"):
        network = space.build(architecture, task).requires_grad_(False)
    count, ran = space.count(architecture, task), []
    hooks = [
        module.register_forward_hook(lambda *_: ran.append("linear"))
        for module in network.modules()
        if isinstance(module, nn.Linear)
    ]
    assert space.cost(architecture, task) == measure_model(network, Shape((2, task.max_length), task.vocab_size))
    for hook in hooks:
        hook.remove()
    stored = network.state_dict().values()
    assert size_bytes(count, "fp32") == sum(value.nbytes for value in stored)
    assert size_bytes(count, "fp16") == sum(value.nbytes for value in stored) // 2
    matrices = [module.weight.numel() for module in network.modules() if isinstance(module, nn.Linear)]
    assert count.matrix == sum(matrices), "what is looked up in a table is no matrix of int8"
    layers = dict(zip(KINDS, count.layers, strict=True))
    depth = sum(".layer." in stage["module"] for stage in network.feature_info)
    assert {kind: number for kind, number in layers.items() if number} == {"linear": len(ran), "attention": depth}
    assert sum(count.work) == count.macs


@pytest.mark.parametrize("name", TASKS)
def test_the_closed_form_is_what_torch_counts_and_stores(name: str) -> None:
    for architecture in members(BERT, TASKS[name]):
        BERT.check(architecture, TASKS[name])
        require_counted(BERT, architecture, TASKS[name])


def test_a_berts_count_by_hand() -> None:
    """Published: 4 layers of 256, BERT-Mini, has 11.17 million parameters without a classifier (Turc et al. 2019)."""
    task, mini = TASKS["long"], {"layers": 4, "heads": 4, "ffn_ratio": 4}
    d, f, V, P, L, T, K = 256, 1024, 30_522, 512, 4, 300, 5
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    cost = BERT.cost(mini, task)
    assert cost.params == V * d + P * d + 2 * d + 2 * d + L * layer + d * d + d + K * d + K == 11_170_560 + K * (d + 1)
    assert cost.macs == L * T * (4 * d * d + 2 * d * f) + 2 * L * T * T * d + d * d + K * d


@pytest.mark.parametrize("name", TEACHERS)
def test_the_largest_of_a_teachers_own_kind_is_the_teacher(name: str) -> None:
    task = task_of(name)
    model = teacher(name, task)
    space = of_teacher(model, task)
    assert (space.name, space.domain, space.stock(task)) == ("teacher", "text_classification", True)
    assert {p.name: (p.low, p.high, p.step) for p in space.parameters(task)} == {
        "layers": (1, 3, 1),
        "heads": (1, 4, 1),
        "ffn": (64, 320, 64),
    }
    for architecture in members(space, task):
        space.check(architecture, task)
        require_counted(space, architecture, task)
        recipe = space.model(architecture, task)
        assert json.loads(json.dumps(dict(recipe.args))) == recipe.args
        assert (recipe.zoo, recipe.stock) == ("transformers", True)
    with torch.device("meta"):
        largest = space.build(space.largest(task), task)
    assert [(n, w.shape) for n, w in largest.named_parameters()] == [(n, w.shape) for n, w in model.named_parameters()]
    assert largest.settings == model.settings


def test_minilms_own_kind_has_its_heads_in_pairs() -> None:
    """BERT 6×384 with heads of 32, FFN 1536: widths in steps of 64, feed-forwards too."""
    task = TextTask(classes=2, max_length=64, vocab_size=30_522, pad_id=0, pair=False)
    config = {"vocab_size": 30_522, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
              "intermediate_size": 1536, "max_position_embeddings": 512}  # fmt: skip
    with torch.device("meta"):
        space = of_teacher(build("bert", config, task), task)
    assert {p.name: (p.low, p.high, p.step) for p in space.parameters(task)} == {
        "layers": (1, 6, 1),
        "heads": (2, 12, 2),
        "ffn": (64, 1536, 64),
    }
    assert space.cost(space.largest(task), task).params == 22_713_216 + 2 * 385


def test_parts_the_sizes_do_not_tell_are_refused() -> None:
    task = task_of("bert")
    model: Any = teacher("bert", task)
    model.network.bert.encoder.layer[1].output.dense = nn.Linear(640, 128, device="meta")
    with pytest.raises(InvalidRequest, match=r"differs from other networks of its family.*BERT, RoBERTa, DistilBERT"):
        of_teacher(model, task)


def test_tasks_of_other_domains_are_refused_both_ways() -> None:
    text = TASKS["short"]
    with pytest.raises(
        InvalidRequest, match=r"bert does not take image classification; these spaces do: .*vit"
    ) as caught:
        BERT.require(IMAGES)
    assert caught.value.field == "search.space"
    for space in spaces:
        if space.name != "bert":
            with pytest.raises(InvalidRequest, match="does not take text classification; these spaces do: bert"):
                space.require(text)
    assert suited(text) == (BERT,)
    assert BERT not in suited(IMAGES)
    assert choose("auto", text, None) == (BERT,)
    own, family = choose("auto", text, teacher("bert", text))
    assert (own.name, family) == ("teacher", BERT)


def test_texts_longer_than_its_positions_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="does not take texts of 513 tokens, of which it takes 512"):
        BERT.require(replace(TASKS["short"], max_length=513))
