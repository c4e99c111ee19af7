"""A stock encoder asked as every network is: its answers are the library's own, its parts are where it says."""

# B batch, T tokens, D features, K classes

from __future__ import annotations

from typing import Any

import pytest
import torch

from archsearch.evidence.layers import blocks, classifier, stage_names
from archsearch.kernels import label_loss
from archsearch.zoos.transformers.network import EncoderClassifier, build
from tests.zoos.transformers.encoders import CLASSES, CONFIGS, examples, stock, task_of

FAMILIES = tuple(CONFIGS)


def wrapped(family: str) -> EncoderClassifier:
    return EncoderClassifier(stock(family)).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_are_the_librarys_own(family: str) -> None:
    network = wrapped(family)
    x_B2T = examples(pad_id=CONFIGS[family]["pad_token_id"])
    segments = {"token_type_ids": x_B2T[:, 1].clamp(min=0)} if family in ("bert", "electra") else {}
    with torch.no_grad():
        own_BK = network.network(input_ids=x_B2T[:, 0], attention_mask=(x_B2T[:, 1] >= 0).long(), **segments).logits
        assert network(x_B2T).equal(own_BK)
    assert own_BK.shape == (4, CLASSES)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_answer(family: str) -> None:
    network, pad_id = wrapped(family), CONFIGS[family]["pad_token_id"]
    x_B2T = examples(pad_id=pad_id)
    with torch.no_grad():
        alone_1K = network(x_B2T[:1, :, :3])
        torch.testing.assert_close(network(x_B2T)[:1], alone_1K, rtol=1e-5, atol=1e-6)
    assert network.mask(x_B2T).sum(1).tolist() == [3, 4, 5, 12]


@pytest.mark.parametrize("family", FAMILIES)
def test_its_parts_are_where_it_says(family: str) -> None:
    network, seen = wrapped(family), {}
    x_B2T = examples(pad_id=CONFIGS[family]["pad_token_id"])
    assert stage_names(network) == [stage["module"] for stage in network.feature_info]
    assert blocks(network) == [network.get_submodule(name) for name in stage_names(network)]

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.update({name: output})

    for name in stage_names(network):
        network.get_submodule(name).register_forward_hook(keep(name))
    network.embeddings_module.register_forward_hook(keep("embeddings"))
    for i, attention in enumerate(network.attention_modules()):
        assert attention.heads == 2
        for part in ("query", "key", "value"):
            getattr(attention, part).register_forward_hook(keep(f"{part}{i}"))
    classifier(network).register_forward_hook(keep("head"))
    logits_BK = network(x_B2T)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {
        "embeddings": (4, 12, 8 if family == "electra" else 16),
        **{stage["module"]: (4, 12, stage["num_chs"]) for stage in network.feature_info},
        **{f"{part}{i}": (4, 12, 16) for part in ("query", "key", "value") for i in (0, 1)},
        "head": (4, CLASSES),
    }
    assert seen["head"].equal(logits_BK)
    # What the embeddings are is where the input's gradients are taken.
    (gradient_BTD,) = torch.autograd.grad(logits_BK.sum(), seen["embeddings"])
    assert gradient_BTD[0, :3].any()
    assert not gradient_BTD[0, 3:].any(), "padding decides nothing"
    last_BTD = seen[stage_names(network)[-1]]
    assert network.forward_features(x_B2T).equal(last_BTD)
    assert network.num_prefix_tokens == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_steps_give_the_same_bits_and_second_derivatives(family: str) -> None:
    x_B2T, y_B = examples(pad_id=CONFIGS[family]["pad_token_id"]), torch.tensor([0, 1, 2, 0])

    def gradients() -> list[torch.Tensor]:
        network = EncoderClassifier(stock(family)).train()
        torch.manual_seed(1)  # of dropout
        loss = label_loss(network(x_B2T), y_B)
        loss.backward()
        return [weight.grad for weight in network.parameters() if weight.grad is not None]

    assert all(a.equal(b) for a, b in zip(gradients(), gradients(), strict=True))
    network = wrapped(family)
    weights = [attention.query.weight for attention in network.attention_modules()]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        first = torch.autograd.grad(label_loss(network(x_B2T), y_B), weights, create_graph=True)
        second = torch.autograd.grad(torch.stack([(g * g).sum() for g in first]).sum(), weights)
    assert all(g.isfinite().all() and g.any() for g in second)


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_built_network_has_the_tasks_classes(kind: Any) -> None:
    network = build("bert", CONFIGS["bert"], task_of(kind=kind))
    assert network.config.id2label == {0: "bad", 1: "so so", 2: "good"}
    expected = "multi_label_classification" if kind == "multilabel" else "single_label_classification"
    assert network.config.problem_type == expected
    assert network.get_classifier().out_features == network.num_classes == CLASSES
    assert build("bert", CONFIGS["bert"], task_of(class_names=())).config.id2label[2] == "LABEL_2"


def test_heads_tell_networks_of_the_same_weights_apart() -> None:
    one, other = (build("bert", {**CONFIGS["bert"], "num_attention_heads": heads}, task_of()) for heads in (2, 4))
    assert one._model_args != other._model_args
    assert one._model_args == build("bert", CONFIGS["bert"], task_of(class_names=("a", "b", "c")))._model_args


@pytest.mark.parametrize("family", FAMILIES)
def test_it_runs_on_the_meta_device(family: str) -> None:
    with torch.device("meta"):
        network = build(family, CONFIGS[family], task_of(family))
        assert network(torch.zeros(2, 2, 5, dtype=torch.long)).shape == (2, CLASSES)
