"""What every family's file promises: the largest is the teacher, and whoever is cut out of it is what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from archsearch.inherit.families import layout
from archsearch.inherit.layout import Groups, Unsliceable
from archsearch.inherit.slices import Cut, Scissors, cut
from archsearch.spaces import of_teacher
from archsearch.zoos.timm import take_over
from tests.inherit import surgery
from tests.inherit.networks import (
    FAMILIES,
    NAMES,
    answers,
    copied,
    examples,
    look,
    members,
    noise,
    shake,
    some,
    space_of,
    teacher_of,
    whole_of,
)

KIN = [name for name in NAMES if not FAMILIES[name.values[0]].smaller]
NOISE = 123.0


def of_kin(names: list[Any], **wanted: Any) -> list[Any]:
    """Those of some families."""

    def is_one(name: Any) -> bool:
        family = FAMILIES[name.values[0]]
        return all(getattr(family, key) == value for key, value in wanted.items())

    return [name for name in names if is_one(name)]


@pytest.mark.parametrize("name", KIN)
def test_the_largest_member_is_the_teacher_to_the_bit(name: str) -> None:
    family, space, whole = FAMILIES[name], space_of(name), whole_of(name)
    student = noise(space.build(space.largest(family.task), family.task))
    assert cut(whole, student, layout(student)) == Cut(exact=True)
    state = teacher_of(name).state_dict()
    assert all(value.equal(state[key]) for key, value in student.state_dict().items())
    x = examples(family, seed=1)
    assert torch.allclose(answers(student, x), answers(teacher_of(name), x), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_members_are_cut_whole_and_answer(name: str) -> None:
    family, sliced = FAMILIES[name], 0
    for architecture, build in members(name, 6):
        student = build()
        try:
            done = cut(whole_of(name), student, layout(student))
        except Unsliceable:
            continue
        sliced += 1
        left = {key for key, value in student.state_dict().items() if (value == NOISE).any()}
        assert left == set(done.strangers), architecture
        assert not done.strangers or architecture["stages"] < len(FAMILIES[name].args.get("stages", [0] * 7))
        if not done.strangers:
            assert answers(student, examples(family)).isfinite().all(), architecture
    assert sliced > 0


@pytest.mark.parametrize("name", KIN)
def test_blocks_that_are_kept_are_those_of_the_teacher_to_the_bit(name: str) -> None:
    space, task = space_of(name), FAMILIES[name].task
    wide = {p.name: p.high for p in space.parameters(task) if not p.name.startswith(("depth", "layers", "stages"))}
    whole, state, sliced = whole_of(name), teacher_of(name).state_dict(), 0
    for architecture, build in members(name, 4, **wide):
        student = build()
        drawn = layout(student)
        try:
            done = cut(whole, student, drawn)
        except Unsliceable:
            assert name.startswith("regnet"), "only they cannot be of any depth"
            continue
        sliced += 1
        theirs: dict[str, str] = {}
        for number, stage in enumerate(drawn.stages):
            rows = sorted(whole.order[number][: len(stage)])
            assert rows[0] == 0, "the first of a stage never goes"
            theirs |= dict(zip(stage, (whole.layout.stages[number][row] for row in rows), strict=True))
        for key, value in student.state_dict().items():
            block = next((own for own in theirs if key.startswith(own + ".")), "")
            source = theirs[block] + key[len(block) :] if block else key
            assert key in done.strangers or value.equal(state[source]), (architecture, key)
    assert sliced > 0


@pytest.mark.parametrize("name", of_kin(NAMES, coupled=False))
def test_what_nobody_reads_may_go(name: str) -> None:
    """Any wrong tie of channels shows here: what is left out of one layer is then not what is left out of another."""
    family, model = FAMILIES[name], teacher_of(name)
    student, into = surgery.narrowed(model, lambda root: "/" in root or not family.normed)
    assert into
    drawn = layout(model)
    matter = surgery.alive(surgery.channels(model, drawn), into, drawn.groups, seed=3)
    require_same(surgery.silence(model, matter), student, examples(family))


@pytest.mark.parametrize("name", of_kin(KIN, normed=False))
def test_what_nobody_reads_may_go_from_members_of_the_space(name: str) -> None:
    family, model, space, sliced = FAMILIES[name], teacher_of(name), space_of(name), 0
    deep = {p.name: p.high for p in space.parameters(family.task) if p.name.startswith(("depth", "stages"))}
    for _, build in members(name, 3, seed=5, **deep):
        student = build()
        try:
            scissors = Scissors(whole_of(name), layout(student))
        except Unsliceable:
            continue
        sliced += 1
        require_same(surgery.silence(model, matter_of(model, student, scissors)), student, examples(family))
    assert sliced > 0


def matter_of(model: nn.Module, student: nn.Module, scissors: Scissors) -> Mapping[str, Tensor]:
    """As many channels of each stream as the student has, drawn at random."""
    into: dict[str, Groups | int] = {}
    for stream, count in surgery.channels(student, scissors.layout).items():
        root = scissors.root(stream)
        groups = scissors.into.get(root)
        if groups is not None and groups.size * groups.count == count and scissors.whole.layout.groups[root].size > 1:
            into[root] = groups
        else:
            before = into.get(root, count)
            into[root] = min(count, before) if isinstance(before, int) else before
    drawn = layout(model)
    return surgery.alive(surgery.channels(model, drawn), into, drawn.groups, seed=4)


def require_same(silent: nn.Module, student: nn.Module, x: Tensor) -> None:
    whole = look(silent, x)
    done = cut(whole, student, layout(student))
    assert not done.strangers
    expected = answers(silent, x)
    assert expected.std(dim=0).mean() > 1e-2 * expected.abs().max(), "what examples are about is heard"
    assert torch.allclose(answers(student, x), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.slow
def test_a_shortcut_the_teacher_does_without_passes_on_what_is_kept() -> None:
    """Its stem is as wide as its first stage; the student's stem stays, and its first stage is narrower."""
    model, space, task = teacher_of("resnet18"), space_of("resnet18"), FAMILIES["resnet18"].task
    student = noise(space.build({**space.largest(task), "width1": 4}, task))
    scissors = Scissors(whole_of("resnet18"), layout(student))
    silent = surgery.silence(model, matter_of(model, student, scissors))
    x = examples(FAMILIES["resnet18"])
    done = cut(look(silent, x), student, layout(student))
    assert done.passing == ("layer1.0.downsample.0", "layer1.0.downsample.1")
    assert not done.exact
    assert torch.allclose(answers(student, x), answers(silent, x), atol=1e-4)


IDENTITIES = [
    some("cifar_resnet", {}, "layer3.1", ["bn2"]),
    some("resnet18", {}, "layer3.1", ["bn2"]),
    some("vit", {"depth": 5}, "blocks.2", ["attn.proj", "mlp.fc2"]),
    some("convnext", {}, "stages.2.blocks.1", ["mlp.fc2"]),
    some("mobilenet_blocks", {}, "blocks.1.2", ["bn3"]),
]


@pytest.mark.parametrize(("name", "changes", "block", "last"), IDENTITIES)
def test_a_block_that_passes_on_what_it_is_given_is_the_first_to_go_and_leaves_no_trace(
    name: str, changes: dict[str, Any], block: str, last: list[str]
) -> None:
    family = FAMILIES[name]
    model = shake(family.build(**changes))
    for part in last:
        module: Any = model.get_submodule(f"{block}.{part}")
        module.weight.data.zero_()
        module.bias.data.zero_()
    x = examples(family)
    whole = look(model, x)
    stage = next(i for i, names in enumerate(whole.layout.stages) if block in names)
    assert whole.layout.stages[stage][whole.order[stage][-1]] == block
    space = of_teacher(model, family.task, whole.order)
    depth = next(p for p in space.parameters(family.task) if p.name in (f"depth{stage + 1}", "depth"))
    student = noise(space.build({**space.largest(family.task), depth.name: depth.high - 1}, family.task))
    cut(whole, student, layout(student))
    assert torch.allclose(answers(student, x), answers(model, x), atol=1e-5)


def test_positions_are_interpolated_for_images_of_another_size() -> None:
    family = FAMILIES["deit"]
    larger = shake(family.build(img_size=64))
    same = family.build()
    take_over(larger, same)
    assert same.state_dict()["cls_token"].equal(larger.state_dict()["cls_token"])
    assert same.state_dict()["pos_embed"].shape == (1, 17, 32)
    assert answers(same.eval(), examples(family)).isfinite().all()
    again = family.build(img_size=64)
    take_over(larger, again)
    assert answers(again.eval(), torch.randn(2, 3, 64, 64)).isfinite().all()
    assert all(value.equal(again.state_dict()[key]) for key, value in larger.state_dict().items())


UNSLICEABLE: list[Any] = [
    some("cifar_resnet", {"depths": [3, 3, 3]}, "stage 2 would have 3 blocks, its teacher's has 2"),
    some("cifar_resnet", {"widths": [8, 16, 32]}, "layer3.0/inner would have 32 channels, its teacher's has 24"),
    some("resnet50", {"channels": [32, 16, 16, 24]}, "would have 32 channels, its teacher's has 16"),
    some("mobilenet_blocks", {"num_features": 96}, "head would have 96 channels, its teacher's has 64"),
    (
        "resnext",
        {"channels": [16, 32, 32, 64], "cardinality": 16, "base_width": 8},
        "the groups that .* are no part of its teacher's",
    ),
    some("resnext", {"cardinality": 1, "base_width": 64}, "in groups on one side alone|no part of its teacher's"),
    some("electra", {"hidden_size": 20}, "embedded and tokens are added up, which its teacher keeps apart"),
    some("vit", {"patch_size": 4}, r"is .* and what is left of its teacher's"),
]


@pytest.mark.parametrize(("name", "changes", "why"), UNSLICEABLE)
def test_what_is_no_part_of_the_teacher_says_why(name: str, changes: dict[str, Any], why: str) -> None:
    student = FAMILIES[name].build(**changes)
    with pytest.raises(Unsliceable, match=why) as caught:
        cut(whole_of(name), student, layout(student))
    assert caught.value.field == "distill.init"


@pytest.mark.slow
def test_no_member_has_a_first_stage_that_is_made_one_with_its_stem() -> None:
    family = FAMILIES["resnet50"]
    model = shake(family.build(channels=[32, 16, 16, 24]))
    whole, open_ = look(model, examples(family)), of_teacher(model, family.task)
    space = of_teacher(model, family.task, whole.order)
    (own,) = (p for p in space.parameters(family.task) if p.name == "width1")
    (before,) = (p for p in open_.parameters(family.task) if p.name == "width1")
    assert (list(before.values), list(own.values)) == ([2, 4, 6, 8], [6, 8])
    for width in own.values:
        student = noise(space.build({**space.largest(family.task), "width1": width}, family.task))
        assert not cut(whole, student, layout(student)).strangers


@pytest.mark.slow
def test_a_stage_that_is_made_one_with_the_stem_is_refused() -> None:
    """The teacher's stem is projected to its first stage; a stage as wide as the stem would be added to it."""
    model = shake(FAMILIES["resnet50"].build(channels=[32, 16, 16, 24]))
    student = FAMILIES["resnet50"].build()
    with pytest.raises(Unsliceable, match="stage1 and stem are added up, which its teacher keeps apart"):
        cut(look(model, examples(FAMILIES["resnet50"])), student, layout(student))


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("swin_tiny_patch4_window7_224", {}, "a SwinTransformer is of no family that students can be cut out of"),
        ("ecaresnet26t", {}, "nobody has said how .*conv.* of a ResNet is cut"),
        ("senet154", {"layers": [1, 1, 1, 1]}, r"conv2 convolves \d+ channels in 64 groups to \d+"),
        ("vit_small_patch16_224", {"qk_norm": True}, "nobody has said how blocks.0.attn"),
    ],
)
def test_networks_of_unknown_parts_say_which(name: str, args: dict[str, Any], why: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, **args)
    with pytest.raises(Unsliceable, match=why) as caught:
        layout(model)
    assert caught.value.field == "distill.init"


@pytest.mark.parametrize("name", ["cifar_resnet", "vit"])
def test_cutting_is_the_same_each_time_and_in_any_order_of_the_examples(name: str) -> None:
    x, model = examples(FAMILIES[name]), teacher_of(name)
    whole, again, turned = look(model, x), look(model, x), look(copied(model), x.flip(0))
    assert whole.order == again.order == turned.order
    for root, value in whole.importance.items():
        assert value.equal(again.importance[root])
        assert torch.allclose(value, turned.importance[root], rtol=1e-4)
