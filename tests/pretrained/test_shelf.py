"""Networks on the shelf: costs, scores, and weights that students begin with."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.data.shape import Shape
from archsearch.distill.schedule import gentle
from archsearch.distill.train import logits, train
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import Limits, Ruler, measure_exactly
from archsearch.hardware.ruler import size_bytes
from archsearch.inherit.start import divergence
from archsearch.pretrained import NoHead, Shelf, make_ready
from archsearch.pretrained.count import counted
from archsearch.pretrained.facts import facts
from archsearch.pretrained.head import answer_by, answering, features
from archsearch.pretrained.stored import in_folder
from archsearch.request import DistillSpec, SearchSpec
from archsearch.ridge import leave_one_out
from archsearch.search import Bench, look_along, search
from archsearch.spaces.count import KINDS
from archsearch.teachers import Teacher

KNOWS, NOISE, STOCK = ({"network": i} for i in range(3))


def test_the_space_is_the_networks_that_take_the_task_by_name(shelf: Shelf, gray_task: ImageTask) -> None:
    assert [member.stored.label for member in shelf.members] == ["folder:knows", "folder:noise", "folder:stock"]
    space = shelf.space()
    assert (space.name, space.start, space.cardinality(gray_task)) == ("pretrained", "pretrained", 3)
    assert space.called is not None
    assert space.called(STOCK) == "folder:stock"
    assert space.learns_by(KNOWS) == "sgd", "it has batch norms"
    assert [space.model(each, gray_task).stock for each in (KNOWS, STOCK)] == [False, True]
    assert set(shelf.left_out) == {"folder:vit"}
    assert "cannot be built for images of 8×8 pixels" in shelf.left_out["folder:vit"]


def test_transformers_are_built_for_the_images(networks: Path, colour_task: ImageTask) -> None:
    found = {one.label: facts(one, colour_task, None) for one in in_folder(networks)}
    assert not any(isinstance(each, str) for each in found.values()), found
    assert found["folder:vit"].recipe.args["img_size"] == [32, 32]
    assert [found[f"folder:{name}"].optimizer for name in ("vit", "stock")] == ["adamw", "sgd"]
    assert "img_size" not in found["folder:stock"].recipe.args


@pytest.mark.parametrize("architecture", [KNOWS, NOISE, STOCK])
def test_costs_are_what_torch_counts(shelf: Shelf, architecture: dict[str, int], gray_task: ImageTask) -> None:
    ruler = Ruler(gray_task, Limits(peak_activation_bytes=10**9), batch=1)
    space = shelf.space()
    assert asdict(ruler.measure(space, architecture)) == asdict(measure_exactly(space, architecture, ruler))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
def test_any_network_is_counted_exactly(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=10)
    side = model.pretrained_cfg["input_size"][1]
    count = counted(model, Shape((3, side, side)))
    assert count.params == sum(weight.numel() for weight in model.parameters())
    assert size_bytes(count, "fp32") == sum(value.nbytes for value in model.state_dict().values())
    assert sum(count.work) == count.macs
    assert (count.work[KINDS.index("attention")] > 0) == ("vit" in name)


def test_what_knows_digits_scores_above_noise_and_above_what_knows_others(shelf: Shelf) -> None:
    knows, noise, stock = (shelf.look(each) for each in (KNOWS, NOISE, STOCK))
    assert knows.nats < 0.6 * noise.nats
    assert knows.r2 > max(noise.r2, stock.r2)
    assert knows.logme > noise.logme
    assert knows.cka is not None
    assert knows.cka > (noise.cka or 0)
    assert shelf.look(KNOWS).nats == knows.nats, "the same every time"


@pytest.mark.parametrize("architecture", [KNOWS, STOCK])
def test_a_student_begins_with_all_but_the_head(
    shelf: Shelf, networks: Path, architecture: dict[str, int], gray_task: ImageTask
) -> None:
    space = shelf.space()
    model = space.begin(architecture, gray_task)
    assert model.training
    kept = load_file(networks / shelf.member(architecture).stored.named.label.partition(":")[2] / "model.safetensors")
    ends = (
        {"fc.weight", "fc.bias", "conv1.0.weight", "conv1.weight"}
        if architecture == STOCK
        else {"fc.weight", "fc.bias"}
    )
    same = {name for name, value in model.state_dict().items() if name in kept and torch.equal(value, kept[name])}
    anew = {name for name in kept if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert anew.isdisjoint(same), "norms see what training will show them"
    assert set(kept) - ends - anew <= same
    assert answering(model).weight.shape[0] == 10


def test_the_head_is_the_closed_form_of_the_teachers_answers(shelf: Shelf, teacher: Teacher, digits: Dataset) -> None:
    space = shelf.space()
    read = space.read(KNOWS, digits)
    model = space.begin(KNOWS, digits.task).eval()
    x = digits.test.examples(slice(0, 300))
    with torch.no_grad():
        said, theirs = model(domains.of(read.task).prepare(x, read.task)), teacher.logits(x)
    fresh = divergence(theirs, said, "classification")
    assert fresh < 1.5 * shelf.look(KNOWS).nats, "what was left out tells what is new"
    assert fresh < 0.5 * divergence(theirs, torch.zeros_like(theirs), "classification")


def test_norms_and_head_are_of_what_training_shows(shelf: Shelf, digits: Dataset) -> None:
    space = shelf.space()
    model, task = space.begin(KNOWS, digits.task), space.read(KNOWS, digits).task
    x = domains.of(task).prepare(shelf.x, task)
    with torch.no_grad():
        training = model.train()(x)
        later = model.eval()(x)
    as_trained, as_asked = (divergence(shelf.logits_BK, said, "classification") for said in (training, later))
    assert as_trained == pytest.approx(as_asked, abs=0.05)
    assert as_trained < 0.3


def test_students_read_as_the_weights_were_trained(shelf: Shelf, gray_task: ImageTask) -> None:
    space = shelf.space()
    assert space.reads is not None
    assert space.reads(KNOWS, gray_task) == gray_task
    # Of three channels, in one.
    mean, std = space.reads(STOCK, gray_task).mean, space.reads(STOCK, gray_task).std
    assert mean == pytest.approx((0.4,))
    assert std == pytest.approx((0.2,))


def test_a_search_looks_at_every_network_within_the_budget(shelf: Shelf, gray_task: ImageTask) -> None:
    space = shelf.space()
    small = Limits(params=10_000)
    spec = SearchSpec(candidates=10)
    trials = list(search(spec, Bench(gray_task, ()), Ruler(gray_task, small), [space], look=look_along(shelf)))
    assert sorted(trial.architecture["network"] for trial in trials) == [0, 1]
    assert all(trial.state == "scored" and trial.cost.params <= 10_000 for trial in trials)
    best = max(trials, key=lambda trial: trial.score or 0)
    assert best.architecture == KNOWS
    assert best.score == -best.proxies["teacher_kl"] == best.votes["teacher_kl"]
    assert set(best.proxies) == {"teacher_kl", "loo_r2", "logme", "cka"}


def test_a_teacher_that_shows_nothing_but_answers_is_enough(
    networks: Path, shelf: Shelf, teacher: Teacher, digits: Dataset
) -> None:
    class Closed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = teacher.model

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            said_BK: torch.Tensor = self.inner(x_BCHW)
            return said_BK

    closed = replace(teacher, model=Closed().eval())  # type: ignore[type-var]
    found, open_ = make_ready(in_folder(networks), closed, digits).look(KNOWS), shelf.look(KNOWS)
    assert (found.nats, found.r2, found.logme) == (open_.nats, open_.r2, open_.logme)
    assert (found.cka, open_.cka is None) == (None, False)


def test_many_labels_an_image_are_many_answers(networks: Path, teacher: Teacher, pairs: Dataset) -> None:
    shelf = make_ready(in_folder(networks)[:2], teacher, pairs)
    knows, noise = (shelf.look(each) for each in (KNOWS, NOISE))
    assert 0 < knows.nats < noise.nats
    space, x = shelf.space(), domains.of(pairs.task).prepare(shelf.x, pairs.task)
    with torch.no_grad():
        said = space.begin(KNOWS, pairs.task).eval()(x)
    assert divergence(shelf.logits_BK, said, "multilabel") < knows.nats * 2


def test_what_cannot_be_built_for_the_images_is_left_out_and_says_so(
    networks: Path, teacher: Teacher, digits: Dataset, tmp_path: Path
) -> None:
    stored = {one.label: one for one in in_folder(networks)}
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"architecture": "resnet19", "pretrained_cfg": {}}')
    (broken / "model.safetensors").write_bytes(stored["folder:noise"].weights.read_bytes())
    odd = replace(stored["folder:noise"], source=f"local-dir:{broken}", weights=broken / "model.safetensors")
    found = make_ready([odd, stored["folder:knows"]], teacher, digits, cache=tmp_path / "cache")
    assert [member.stored.label for member in found.members] == ["folder:knows"]
    assert set(found.left_out) == {"folder:noise"}
    assert isinstance(facts(odd, digits.task, tmp_path / "cache"), str), "and it is kept"


def test_facts_are_found_out_once_for_each_size(networks: Path, gray_task: ImageTask, tmp_path: Path) -> None:
    (knows, *_) = in_folder(networks)
    first = facts(knows, gray_task, tmp_path)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    assert facts(knows, gray_task, tmp_path) == first
    assert kept.stat().st_mtime_ns == written
    other = facts(knows, replace(gray_task, height=16, width=16), tmp_path)
    assert not isinstance(first, str)
    assert not isinstance(other, str)
    assert (other.count.params, len(list(tmp_path.iterdir()))) == (first.count.params, 2)
    assert other.count.macs > 3 * first.count.macs


def test_a_network_without_one_linear_head_says_so() -> None:
    twofold = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, num_classes=10)
    with pytest.raises(NoHead, match="one linear layer"):
        features(twofold, torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_nfnet"])
def test_features_are_what_the_head_reads(name: str) -> None:
    model = timm.create_model(name, num_classes=5)
    side = model.pretrained_cfg["input_size"][1]
    x = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    found_BD = features(model, x)
    layer = answering(model)
    with torch.no_grad():
        said_BK = model.eval()(x)
        torch.testing.assert_close(found_BD @ layer.weight.flatten(1).T + layer.bias, said_BK, rtol=1e-4, atol=1e-4)
        head = leave_one_out(found_BD, said_BK)
        answer_by(model, head)
        torch.testing.assert_close(
            model(x).double(), found_BD.double() @ head.coefficients_DK + head.intercept_K, rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_what_knows_something_ends_above_noise_after_as_many_epochs(
    shelf: Shelf, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    """The rank of the score is the rank of what distillation makes of them."""
    space, reached = shelf.space(), {}
    scratch = replace(space, start="scratch", weights=None)
    for name, one, architecture in (("knows", space, KNOWS), ("noise", space, NOISE), ("scratch", scratch, KNOWS)):
        torch.manual_seed(0)
        model, read = one.begin(architecture, few_digits.task), one.read(architecture, few_digits)
        spec = gentle(DistillSpec(epochs=3, batch_size=32, augment="none"), one.start, "adamw")
        path = tmp_path / f"{name}.safetensors"
        for _ in train(model, read, spec, teacher=teacher, optimizer="adamw", checkpoint_path=path):
            pass
        reached[name] = accuracy(partial(logits, model, read.task), read.test)
    assert reached["knows"] > reached["noise"] + 5
    assert reached["knows"] > reached["scratch"] + 5
