"""Mending: what can be made up for is, what was not touched stays, and norms count as they did."""

# B batch, I inputs, M samples, N inputs of the whole

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archsearch.inherit.families import layout
from archsearch.inherit.guess import fit
from archsearch.inherit.repair import mend, record
from archsearch.inherit.slices import Cut, Scissors, Whole, cut
from tests.inherit import surgery
from tests.inherit.networks import (
    FAMILIES,
    answers,
    copied,
    examples,
    look,
    members,
    noise,
    shown,
    some,
    space_of,
    teacher_of,
    whole_of,
)


def mended(whole: Whole, model: nn.Module, student: nn.Module, x: Tensor, *, layers: bool = True) -> Cut:
    drawn, seen = layout(student), shown(model, x)
    done = cut(whole, student, drawn)
    mend(student, done, Scissors(whole, drawn), record(model, whole.layout, seen), seen, layers=layers)
    return done


# A layer that writes channels, its norm, and the layer that reads them; the last channel is to be twice the first.
_LAYER = "network.electra.encoder.layer.1"
TWICE = [
    some("cifar_resnet", "layer2.0.conv1", "layer2.0.bn1", "layer2.0.conv2"),
    some("convnext", "stages.1.blocks.0.mlp.fc1", None, "stages.1.blocks.0.mlp.fc2"),
    some("vit", "blocks.1.mlp.fc1", None, "blocks.1.mlp.fc2"),
    some("electra", f"{_LAYER}.intermediate.dense", None, f"{_LAYER}.output.dense"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "writer", "norm", "reader"), TWICE)
def test_a_channel_that_others_tell_is_made_up_for(name: str, writer: str, norm: str | None, reader: str) -> None:
    family, model = FAMILIES[name], copied(teacher_of(name))
    written: Any = model.get_submodule(writer)
    read: Any = model.get_submodule(reader)
    with torch.no_grad():
        for module in (written, *([model.get_submodule(norm)] if norm else [])):
            for value in module.state_dict().values():
                if value.ndim:
                    value[-1] = value[0]
        read.weight[:, -1] = read.weight.abs().max() * read.weight[:, -1].sign()
    x = examples(family, 64)
    whole = look(model, x)
    stream = next(r.axis.stream for r in whole.layout.readers if r.module == reader)
    worth = whole.importance[stream].clone()
    worth[-1] = -1
    whole = replace(whole, importance={**whole.importance, stream: worth})
    student = one_fewer(model, stream)
    expected = answers(model, x)
    done = mended(whole, model, student, x, layers=False)
    before = float((answers(student, x) - expected).abs().max())
    mended(whole, model, student, x)
    after = float((answers(student, x) - expected).abs().max())
    assert not done.exact
    assert before > 1e-3 * float(expected.abs().max())
    assert after < 1e-2 * before + 1e-6


def one_fewer(model: nn.Module, stream: str) -> nn.Module:
    drawn, made = layout(model), copied(model)
    sizes = {stream: surgery.channels(model, drawn)[stream] - 1}
    for name, axes in drawn.axes.items():
        surgery.resize(made, name, [surgery.share(axis, drawn, sizes) for axis in axes])
    return noise(made)


@pytest.mark.parametrize("name", [some("cifar_resnet"), some("mobilenet_blocks"), some("vit")])
def test_where_nothing_was_cut_nothing_is_changed_to_the_bit(name: str) -> None:
    """What is narrower or shallower comes last: all before it reads and writes what the teacher's do."""
    family, model, whole = FAMILIES[name], teacher_of(name), whole_of(name)
    space = space_of(name)
    last = {"cifar_resnet": {"width3": 4}, "mobilenet_blocks": {"head": 4}, "vit": {"depth": 2}}[name]
    student = noise(space.build({**space.largest(family.task), **last}, family.task))
    mended(whole, model, student, examples(family))
    before = {
        "cifar_resnet": ("conv1", "bn1", "layer1", "layer2"),
        "mobilenet_blocks": ("conv_stem", "bn1", "blocks"),
        "vit": ("cls_token", "pos_embed", "patch_embed", "blocks.0"),
    }[name]
    state = model.state_dict()
    for key, value in student.state_dict().items():
        if key.startswith(before):
            assert value.equal(state[key]), key
    same = {key for key, value in student.state_dict().items() if value.shape == state[key].shape}
    assert any(not student.state_dict()[key].equal(state[key]) for key in same)


def test_running_statistics_move_as_far_as_what_the_norm_is_given() -> None:
    """By hand: of the stem's norm behind, with half of the channels, and of a norm behind a shallower stage."""
    family, model, whole = FAMILIES["cifar_resnet"], teacher_of("cifar_resnet"), whole_of("cifar_resnet")
    space = space_of("cifar_resnet")
    student = noise(space.build({**space.largest(family.task), "depth1": 1}, family.task))
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.num_batches_tracked = 0.07, torch.tensor(5)
    x = examples(family)
    mended(whole, model, student, x, layers=False)
    given: dict[str, Tensor] = {}
    for who, network in (("student", student), ("teacher", model)):
        handle = network.get_submodule("layer2.0.bn1").register_forward_pre_hook(
            lambda _, inputs, who=who: given.update({who: inputs[0].transpose(0, 1).flatten(1)})
        )
        answers(network, x)
        handle.remove()
    own: Any = student.get_submodule("layer2.0.bn1")
    theirs: Any = model.get_submodule("layer2.0.bn1")
    var = [given[who].var(dim=1, correction=0) + own.eps for who in ("student", "teacher")]
    mean = [given[who].mean(dim=1) for who in ("student", "teacher")]
    assert not own.running_mean.equal(theirs.running_mean)
    assert torch.allclose(own.running_mean, theirs.running_mean + mean[0] - mean[1], atol=1e-5)
    assert torch.allclose(own.running_var, theirs.running_var * var[0] / var[1], rtol=1e-4)
    first: Any = student.get_submodule("bn1")
    assert first.running_mean.equal(model.get_submodule("bn1").running_mean), "what it is given has not changed"
    assert own.momentum == 0.07
    assert all(value == 0 for key, value in student.state_dict().items() if key.endswith("tracked"))


@pytest.mark.slow
def test_a_shortcut_that_passes_on_does_so_in_training_too() -> None:
    family, model, whole = FAMILIES["resnet18"], teacher_of("resnet18"), whole_of("resnet18")
    space = space_of("resnet18")
    student = noise(space.build({**space.largest(family.task), "width1": 4}, family.task))
    x = examples(family)
    assert mended(whole, model, student, x).passing
    shortcut: Any = student.get_submodule("layer1.0.downsample")
    taken: list[Tensor] = []
    shortcut.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    answers(student, x)
    stem = taken[0]
    kept = shortcut[0].weight.flatten(1).argmax(dim=1)
    for training in (False, True):
        shortcut.train(training)
        with torch.no_grad():
            assert torch.allclose(shortcut(stem), stem[:, kept], atol=1e-4)


@pytest.mark.parametrize("name", [some("mobilenet_blocks"), some("efficientnet_blocks")])
def test_a_head_that_reads_an_earlier_stage_learns_to(name: str) -> None:
    """It was noise: it reads what the teacher's does not, on larger maps too."""
    family, model, whole = FAMILIES[name], teacher_of(name), whole_of(name)
    space, x = space_of(name), examples(family, 64)
    fewest = next(p.low for p in space.parameters(family.task) if p.name == "stages")
    student = space.build({**space.largest(family.task), "stages": fewest}, family.task).eval()
    expected = answers(model, x)
    done = mended(whole, model, student, x, layers=False)
    assert done.strangers == ("conv_head.weight",)
    before = float((answers(student, x) - expected).square().mean())
    mended(whole, model, student, x)
    after = float((answers(student, x) - expected).square().mean())
    assert after < 0.5 * before


@pytest.mark.slow
def test_padding_does_not_count() -> None:
    family, model = FAMILIES["electra"], teacher_of("electra")
    x = examples(family, 64)
    longer = torch.cat([x, x[:, :, :1]], dim=2)  # one token of padding more
    longer[:, 0, -1], longer[:, 1, -1] = 0, -1
    one, other = (look(model, each) for each in (x, longer))
    assert one.order == other.order
    for root, value in one.importance.items():
        assert torch.allclose(value, other.importance[root], rtol=1e-3), root
    students = []
    for each, whole in ((x, one), (longer, other)):
        student = members("electra", 1, seed=2)[0][1]()
        mended(whole, model, student, each)
        students.append(answers(student, x))
    assert torch.allclose(*students, atol=1e-2 * float(students[0].abs().max()))


@pytest.mark.slow
def test_it_is_the_same_each_time() -> None:
    family, model, whole = FAMILIES["cifar_resnet"], teacher_of("cifar_resnet"), whole_of("cifar_resnet")
    (_, build), *_ = members("cifar_resnet", 1, seed=3)
    states = []
    for _ in range(2):
        student = build()
        student.train()
        mended(whole, model, student, examples(family))
        assert all(module.training for module in student.modules()), "modes are as before"
        assert all(weight.grad is None for weight in student.parameters())
        states.append(student.state_dict())
    assert all(value.equal(states[1][key]) for key, value in states[0].items())


class TestTheFit:
    def test_what_is_told_exactly_is_found_as_inputs_and_as_outputs(self) -> None:
        torch.manual_seed(0)
        x_MI, map_IN, shift_N = torch.randn(400, 6), torch.randn(6, 8), torch.randn(8)
        off_MN = x_MI @ map_IN + shift_N
        for outputs in (3, 20):
            weight_RN = torch.randn(outputs, 8)
            found = fit(x_MI, off_MN, weight_RN, bias=True)
            assert found is not None
            assert torch.allclose(found[0], weight_RN @ map_IN.T, atol=1e-3)
            assert torch.allclose(found[1], weight_RN @ shift_N, atol=1e-3)

    def test_what_nothing_tells_is_left_alone(self) -> None:
        """More inputs than examples, and noise to explain: any map is of the examples alone."""
        torch.manual_seed(0)
        worth = []
        for _ in range(20):
            weight_RN = torch.randn(3, 8)
            found = fit(torch.randn(40, 60), torch.randn(40, 8), weight_RN, bias=False)
            x, off = torch.randn(1000, 60), torch.randn(1000, 8) @ weight_RN.T
            left = off if found is None else off - x @ found[0].T - found[1]
            worth.append(float(left.square().mean() / off.square().mean()))
        assert sum(worth) / len(worth) < 1.1

    def test_a_constant_that_is_missing_is_the_bias(self) -> None:
        torch.manual_seed(0)
        found = fit(torch.randn(100, 4), torch.ones(100, 2) + 0.01 * torch.randn(100, 2), torch.eye(2), bias=True)
        assert found is not None
        assert torch.allclose(found[1], torch.ones(2), atol=0.05)
        assert float(found[0].abs().max()) < 0.05
