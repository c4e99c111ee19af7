from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.attempts import identity_of
from archsearch.distill.progress import Progress
from archsearch.distill.train import logits, train
from archsearch.errors import InvalidRequest, TrainingError, UnknownName
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint


def student(dataset: Dataset, space: str = "resnet_cifar", seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return spaces.get(space).build(spaces.get(space).smallest(dataset.task), dataset.task)


def spec(**fields: Any) -> DistillSpec:
    return DistillSpec(**{"epochs": 4, "batch_size": 64, **fields})


def trained(model: torch.nn.Module, *args: Any, **kwargs: Any) -> list[Progress]:
    return list(train(model, *args, **kwargs))


@pytest.mark.parametrize(
    ("space", "optimizer", "augment"), [("resnet_cifar", "sgd", "crop_flip"), ("vit", "adamw", "crop")]
)
def test_an_interrupted_training_ends_with_the_very_same_weights(
    few_digits: Dataset,
    teacher: Teacher,
    tmp_path: Path,
    subtests: pytest.Subtests,
    space: str,
    optimizer: Any,
    augment: str,
) -> None:
    recipe = spec(augment=augment)
    whole = student(few_digits, space)
    trained(whole, few_digits, recipe, teacher=teacher, optimizer=optimizer)

    for stop in (1, 3):
        with subtests.test(stop=stop):
            path = tmp_path / f"{stop}.safetensors"
            begun = student(few_digits, space)
            kept = {"checkpoint_path": path, "checkpoint_every_s": 0}
            first = train(begun, few_digits, recipe, teacher=teacher, optimizer=optimizer, **kept)
            while next(first).epoch < stop:
                pass
            first.close()
            torch.manual_seed(123)  # whatever happened in between
            second = student(few_digits, space)
            reports = trained(second, few_digits, recipe, teacher=teacher, optimizer=optimizer, checkpoint_path=path)
            assert {report.resumed_at for report in reports} == {4 * stop}
            assert fingerprint(second) == fingerprint(whole)


ANY_STEP = {"augment": "crop_flip", "ema": 0.9, "clip_norm": 1.0, "micro_batch": 32}


@pytest.fixture(scope="module")
def unbroken(few_digits: Dataset, teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The fingerprint of a training that nothing interrupted."""
    whole = student(few_digits)
    trained(whole, few_digits, spec(**ANY_STEP), teacher=teacher, cache=tmp_path_factory.mktemp("unbroken"))
    return fingerprint(whole)


@pytest.mark.parametrize("step", [1, 6, 11, 15])
def test_a_training_goes_on_at_any_step(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, unbroken: str, step: int
) -> None:
    class Stop(Exception):
        pass

    recipe = spec(**ANY_STEP)
    path = tmp_path / "checkpoint.safetensors"
    stopped, again = (student(few_digits) for _ in range(2))
    calls = 0

    def stop_in_the_next_step(module: torch.nn.Module, _inputs: Any) -> None:
        nonlocal calls
        calls += module.training  # two a step, and evaluations between them
        if calls == 2 * step + 2:
            raise Stop

    stopped.register_forward_pre_hook(stop_in_the_next_step)
    with pytest.raises(Stop):
        trained(
            stopped,
            few_digits,
            recipe,
            teacher=teacher,
            checkpoint_path=path,
            checkpoint_every_s=0,
            cache=tmp_path / "two",
        )
    reports = trained(again, few_digits, recipe, teacher=teacher, checkpoint_path=path, cache=tmp_path / "two")
    assert {report.resumed_at for report in reports} == {step}
    assert fingerprint(again) == unbroken


# Each attempt is a process of its own, forked where everything has been imported: a line for how it ended.
KILLED = """
import json, os, signal, sys, threading, traceback
import torch
torch.set_num_threads(1)
from pathlib import Path
from archsearch.domains.images import load_digits
from archsearch.distill.train import train
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.spaces import spaces
from archsearch.teachers import fingerprint, load_teacher

import torch._dynamo, torch.utils.flop_counter  # which the optimizer imports, and what looks for memory
teacher, attempts = Path(sys.argv[1]), json.loads(sys.argv[2])
load_teacher(LocalTeacher(path=teacher)), load_digits()  # and with them timm and scikit-learn

def attempt(folder, method, at, delay_s):
    dataset, space = load_digits(), spaces.get("resnet_cifar")
    torch.manual_seed(0)
    student = space.build(space.smallest(dataset.task), dataset.task)
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    steps = 0

    def count(module, inputs):
        nonlocal steps
        steps += module.training
        if module.training and steps == at:
            threading.Timer(delay_s, die).start() if delay_s else die()

    student.register_forward_pre_hook(count)
    spec = DistillSpec(method=method, epochs=3, batch_size=64, augment="crop")
    kept = dict(checkpoint_path=folder / "checkpoint.safetensors", checkpoint_every_s=0, cache=folder)
    for report in train(student, dataset, spec, teacher=load_teacher(LocalTeacher(path=teacher)), **kept):
        pass
    print(report.resumed_at, fingerprint(student), flush=True)

for folder, method, at, delay_s in attempts:
    child = os.fork()
    if not child:
        try:
            attempt(Path(folder), method, at, delay_s)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        print(status, flush=True)
"""


METHODS = ("kd", "crd")


@pytest.fixture(scope="module")
def killed(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """How a training ended that nobody disturbed, ten that were killed and the last, for each method; one process
    imports for them all."""
    attempts: list[tuple[str, str, float, float]] = []
    for method in METHODS:
        draw = random.Random(method)
        kills = [(draw.randint(2, 5), draw.choice([0, 0, 0.004, 0.01])) for _ in range(10)]
        folder = tmp_path_factory.mktemp(method)
        attempts.append((str(folder / "whole"), method, 0, 0))
        attempts += [(str(folder / "killed"), method, *kill) for kill in [*kills, (0, 0)]]
    command = [sys.executable, "-c", KILLED, str(teacher_folder), json.dumps(attempts)]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(attempts), done.stdout + done.stderr
    return {method: lines[12 * number : 12 * (number + 1)] for number, method in enumerate(METHODS)}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_ten_random_steps_the_weights_are_the_same_to_the_bit(
    killed: Mapping[str, list[str]], method: str
) -> None:
    """Fifty-odd steps; each attempt is killed some steps on, in the middle of a step or while something is written."""
    whole, *deaths, last = killed[method]
    assert deaths == [str(-signal.SIGKILL)] * 10
    assert int(last.split()[0]) >= 10
    assert last.split()[1] == whole.split()[1]


# As trainings were described when requests had no class weights: a new field must leave this as it is where it changes
# no number, or an upgrade throws checkpoints away.
DESCRIBED = (
    '{"method":"kd","losses":null,"labels":null,"temperature":null,"alpha":null,"recipe":"short","epochs":4,'
    '"batch_size":64,"micro_batch":null,"optimizer":"auto","lr":null,"momentum":0.9,"nesterov":true,'
    '"weight_decay":0.0005,"decay_all":false,"schedule":"one_cycle","milestones":[],"decay":0.1,"warmup":0.0,'
    '"clip_norm":null,"ema":null,"augment":"crop","precision":"auto","device":"auto","compile":"auto","devices":1,'
    '"seed":0}'
)


def test_checkpoints_outlive_new_fields_of_a_request(few_digits: Dataset, teacher: Teacher) -> None:
    model = student(few_digits)
    described = "|".join((DESCRIBED, "sgd", few_digits.sha256, teacher.sha256, fingerprint(model)))
    assert identity_of(model, few_digits, spec(method="kd"), teacher, "sgd") == described
    uneven = replace(few_digits, task=replace(few_digits.task, prevalence=(0.9, *(0.1 / 9,) * 9)))
    assert identity_of(model, uneven, spec(method="kd"), teacher, "sgd") != described


@pytest.mark.parametrize("other", ["spec", "data", "teacher", "student"])
def test_the_checkpoint_of_another_training_is_not_resumed_and_that_is_said(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    recipe = spec(epochs=2)
    trained(student(few_digits), few_digits, recipe, teacher=teacher, checkpoint_path=path)
    dataset, model = few_digits, student(few_digits)
    if other == "spec":
        recipe = spec(epochs=2, temperature=2.0)
    elif other == "data":
        dataset = replace(few_digits, sha256="other")
    elif other == "teacher":
        teacher = replace(teacher, sha256="other")
    else:
        model = student(few_digits, "vit")
    assert caplog.text == ""
    reports = trained(model, dataset, recipe, teacher=teacher, checkpoint_path=path)
    assert {report.resumed_at for report in reports} == {0}
    assert "this one starts anew" in caplog.text


def test_a_finished_training_is_not_repeated(few_digits: Dataset, tmp_path: Path) -> None:
    path, recipe = tmp_path / "checkpoint.safetensors", spec(epochs=1, method="none")
    first, again = student(few_digits), student(few_digits)
    trained(first, few_digits, recipe, teacher=None, checkpoint_path=path)
    assert trained(again, few_digits, recipe, teacher=None, checkpoint_path=path) == []
    assert fingerprint(again) == fingerprint(first)
    assert not again.training


def test_a_student_learns_the_digits_in_a_few_epochs(digits: Dataset, teacher: Teacher) -> None:
    architecture = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 16, "width2": 16, "width3": 24}
    torch.manual_seed(0)
    model = spaces.get("resnet_cifar").build(architecture, digits.task)
    reports = trained(model, digits, spec(epochs=5, augment="none"), teacher=teacher)
    measured = accuracy(lambda x: logits(model, digits.task, x), digits.selection)
    assert measured > 60
    assert reports[-1].selection_acc == measured
    assert reports[-1].loss < reports[0].loss
    assert not model.training


def test_a_teacher_is_not_changed_by_teaching(few_digits: Dataset, teacher: Teacher) -> None:
    trained(student(few_digits), few_digits, spec(epochs=1), teacher=teacher)
    assert fingerprint(teacher.model) == teacher.sha256
    assert not teacher.model.training


def test_progress_counts_every_epoch_and_step(few_digits: Dataset) -> None:
    reports = trained(student(few_digits), few_digits, spec(epochs=3, batch_size=100, method="none"), teacher=None)
    ends = [report for report in reports if report.selection_acc is not None]
    assert [(report.epoch, report.step) for report in ends] == [(1, 2), (2, 4), (3, 6)]
    assert {(report.epochs, report.steps) for report in reports} == {(3, 6)}
    assert ends[-1].eta_s == 0


def test_the_seed_decides_order_and_augmentation(few_digits: Dataset) -> None:
    def run(seed: int) -> str:
        model = student(few_digits)
        trained(model, few_digits, spec(epochs=1, method="none", seed=seed), teacher=None)
        return fingerprint(model)

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_a_batch_larger_than_the_data_is_refused(few_digits: Dataset) -> None:
    with pytest.raises(InvalidRequest, match="257 is more than the 256 training examples") as caught:
        trained(student(few_digits), few_digits, spec(batch_size=257, method="none"), teacher=None)
    assert caught.value.field == "distill.batch_size"
    trained(student(few_digits), few_digits, spec(batch_size=256, epochs=1, method="none"), teacher=None)


def test_a_loss_that_needs_a_teacher_says_so(few_digits: Dataset) -> None:
    with pytest.raises(InvalidRequest, match="kd needs a teacher") as caught:
        trained(student(few_digits), few_digits, spec(method="kd"), teacher=None)
    assert caught.value.field == "distill.method"
    with pytest.raises(UnknownName) as unknown:
        trained(student(few_digits), few_digits, spec(method="kdd"), teacher=None)
    assert unknown.value.field == "distill.method"


class Exploding(torch.nn.Module):
    """A student that answers with what is no number, the first `times` times at that step of the training."""

    def __init__(self, inner: torch.nn.Module, step: int, times: int) -> None:
        super().__init__()
        self.inner, self.step, self.times, self.seen = inner, step, times, 0

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        self.seen += self.training
        if self.training and self.seen == self.step and self.times:
            self.times, self.seen = self.times - 1, 0
            return self.inner(x_BCHW) * torch.nan
        return self.inner(x_BCHW)


def test_a_training_that_diverges_once_is_rolled_back_and_ends_well(few_digits: Dataset) -> None:
    model = Exploding(student(few_digits), step=7, times=1)
    reports = trained(model, few_digits, spec(method="none", epochs=10, lr=0.2), teacher=None)
    assert (reports[-1].retries, reports[-1].step) == (1, 40)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert reports[-1].selection_acc > 20


@pytest.mark.slow
def test_where_a_training_is_rolled_back_to_does_not_depend_on_the_clock(few_digits: Dataset, tmp_path: Path) -> None:
    def ended(**kept: Any) -> str:
        model = Exploding(student(few_digits), step=103, times=1)
        trained(model, few_digits, spec(method="none", epochs=27), teacher=None, **kept)
        return fingerprint(model)

    whole = ended()
    for every_s in (0.0, 1e9):
        path = tmp_path / f"{every_s}.safetensors"
        assert ended(checkpoint_path=path, checkpoint_every_s=every_s) == whole, every_s


@pytest.mark.slow
def test_a_warm_up_from_nothing_is_no_divergence(few_digits: Dataset, teacher: Teacher) -> None:
    reports = trained(
        student(few_digits),
        few_digits,
        spec(losses={"reviewkd": {"weight": 100, "warmup": 0.5}}, labels=0.01, batch_size=8, epochs=5, augment="none"),
        teacher=teacher,
    )
    assert reports[-1].retries == 0


def test_a_training_that_goes_on_diverging_fails_with_the_cause(few_digits: Dataset) -> None:
    model = Exploding(student(few_digits), step=7, times=100)
    said = r"the loss became nan at step \d+ of 16, even at a learning rate of .* lower distill.lr \(now 0.05\)"
    with pytest.raises(TrainingError, match=said) as caught:
        trained(model, few_digits, spec(method="none"), teacher=None)
    assert caught.value.field == "distill.lr"


def spoiled_in_half(model: torch.nn.Module) -> list[str]:
    """Make a network answer with no numbers in half precision; the list grows by what each step computed in."""
    steps: list[str] = []

    def spoil(module: torch.nn.Module, _: Any, logits_BK: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return logits_BK
        half = torch.is_autocast_enabled("cpu")
        steps.append("bf16" if half else "fp32")
        return logits_BK * torch.nan if half and len(steps) > 5 else logits_BK

    model.register_forward_hook(spoil)
    return steps


@pytest.mark.parametrize("method", ["none", "kd"])
def test_what_diverges_in_half_precision_becomes_the_training_in_fp32(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, method: str
) -> None:
    exactly, recipe = student(few_digits), {"method": method, "epochs": 3}
    trained(exactly, few_digits, spec(**recipe, precision="fp32"), teacher=teacher)
    model, kept = student(few_digits), {"checkpoint_path": tmp_path / "c.safetensors", "checkpoint_every_s": 0}
    steps = spoiled_in_half(model)
    reports = trained(model, few_digits, spec(**recipe, precision="bf16"), teacher=teacher, cache=tmp_path, **kept)
    assert {"bf16", "fp32"} == set(steps)
    assert (reports[-1].precision, reports[-1].retries, reports[-1].step) == ("fp32", 0, 12)
    assert fingerprint(model) == fingerprint(exactly)


@pytest.mark.parametrize("at", [0, 6])
def test_a_training_killed_after_it_fell_back_goes_on_in_fp32(few_digits: Dataset, tmp_path: Path, at: int) -> None:
    looked = 2  # at the network's size, before each of the two attempts
    exactly = student(few_digits)
    trained(exactly, few_digits, spec(method="none", precision="fp32"), teacher=None)
    kept = {"checkpoint_path": tmp_path / "c.safetensors", "checkpoint_every_s": 0}
    recipe, model = spec(method="none", precision="bf16"), student(few_digits)
    steps = spoiled_in_half(model)

    def stop(*_: Any) -> None:
        if steps.count("fp32") > looked + at:
            raise KeyboardInterrupt

    model.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        trained(model, few_digits, recipe, teacher=None, **kept)
    again = student(few_digits)
    steps = spoiled_in_half(again)
    reports = trained(again, few_digits, recipe, teacher=None, **kept)
    assert reports[-1].resumed_at == at
    assert fingerprint(again) == fingerprint(exactly)
    assert ("bf16" in steps) == (at == 0), "a checkpoint in fp32 is gone on from in fp32"


def test_a_learning_rate_that_explodes_is_answered_by_gentler_ones(few_digits: Dataset) -> None:
    model = student(few_digits, "vit")
    recipe = spec(lr=30, optimizer="sgd", method="none", epochs=10)
    reports = trained(model, few_digits, recipe, teacher=None)
    assert reports[-1].retries > 0
    assert all(value.isfinite().all() for value in model.state_dict().values())


class Hungry(torch.nn.Module):
    """A student for which more than `most` images at a time are too many, as torch says it on a GPU."""

    def __init__(self, inner: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if self.training and len(x_BCHW) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(x_BCHW)


def test_a_lack_of_memory_is_answered_by_computing_fewer_images_at_a_time(few_digits: Dataset) -> None:
    hungry, small = Hungry(student(few_digits), 16), Hungry(student(few_digits), 16)
    reports = trained(hungry, few_digits, spec(method="none", epochs=1), teacher=None)
    trained(small, few_digits, spec(method="none", epochs=1, micro_batch=16), teacher=None)
    assert (reports[-1].step, reports[-1].steps) == (4, 4)
    assert fingerprint(hungry) == fingerprint(small), "the effective batch is the same"


def test_not_even_one_image_fits(few_digits: Dataset) -> None:
    with pytest.raises(TrainingError, match="out of memory with 1 examples at a time") as caught:
        trained(Hungry(student(few_digits), 0), few_digits, spec(method="none", epochs=1), teacher=None)
    assert caught.value.field == "distill.micro_batch"


def test_gradients_of_parts_add_up_to_the_whole_batchs(few_digits: Dataset) -> None:
    """A transformer looks at each image for itself, so parts of a batch make no difference but for rounding."""
    whole, parts = student(few_digits, "vit"), student(few_digits, "vit")
    recipe = {"method": "none", "epochs": 2, "precision": "fp32"}
    trained(whole, few_digits, spec(**recipe), teacher=None)
    trained(parts, few_digits, spec(**recipe, micro_batch=16), teacher=None)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_averaged_weights_become_the_student(few_digits: Dataset) -> None:
    plain, averaged = student(few_digits), student(few_digits)
    trained(plain, few_digits, spec(method="none"), teacher=None)
    reports = trained(averaged, few_digits, spec(method="none", ema=0.5), teacher=None)
    assert fingerprint(plain) != fingerprint(averaged)
    measured = accuracy(lambda x: logits(averaged, few_digits.task, x), few_digits.selection)
    assert reports[-1].selection_acc == measured


def test_a_second_student_finds_every_answer_in_the_view_cache(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path
) -> None:
    asked = 0

    def count(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal asked
        asked += len(inputs[0]) if inputs[0].device.type != "meta" else 0  # there it is measured, not asked

    hook = teacher.model.register_forward_pre_hook(count)
    online, cold, warm = (student(few_digits) for _ in range(3))
    trained(online, few_digits, spec(view_cache="off"), teacher=teacher, cache=tmp_path)
    assert asked == 4 * 256
    first = trained(cold, few_digits, spec(), teacher=teacher, cache=tmp_path)
    asked_cold, asked = asked - 4 * 256, 0
    second = trained(warm, few_digits, spec(), teacher=teacher, cache=tmp_path)
    hook.remove()
    assert 256 <= asked_cold < 4 * 256, "the nine views of an image come up again within four epochs"
    assert asked == 0
    assert 0 < first[-1].cached < second[-1].cached == 1
    assert fingerprint(cold) == fingerprint(warm)
    for one, other in zip(online.parameters(), cold.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.01)  # answers are kept in fp16


def test_views_without_numbers_are_asked_for_online(few_digits: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    reports = trained(
        student(few_digits), few_digits, spec(augment="resized_crop", epochs=1), teacher=teacher, cache=tmp_path
    )
    assert reports[-1].cached is None


@pytest.mark.slow
def test_a_streamed_training_goes_on_at_any_epoch_too(few_digits: Dataset, tmp_path: Path) -> None:
    recipe, path = spec(method="none", augment="resized_crop", epochs=2), tmp_path / "checkpoint.safetensors"
    whole, begun, second = (student(few_digits) for _ in range(3))
    trained(whole, few_digits, recipe, teacher=None)
    first = train(begun, few_digits, recipe, teacher=None, checkpoint_path=path)
    while next(first).epoch < 1:
        pass
    first.close()
    reports = trained(second, few_digits, recipe, teacher=None, checkpoint_path=path)
    assert reports[0].resumed_at == 4
    assert fingerprint(second) == fingerprint(whole)


def test_a_gpu_that_is_not_there_is_refused(few_digits: Dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InvalidRequest, match="torch finds no GPU here") as caught:
        trained(student(few_digits), few_digits, spec(method="none", device="cuda"), teacher=None)
    assert caught.value.field == "distill.device"
    with pytest.raises(InvalidRequest, match="fp16 needs a GPU"):
        trained(student(few_digits), few_digits, spec(method="none", precision="fp16"), teacher=None)


@pytest.mark.slow
def test_compiled_networks_learn_the_same(few_digits: Dataset, teacher: Teacher) -> None:
    plain, compiled, start = (student(few_digits) for _ in range(3))
    recipe = {"epochs": 1, "precision": "fp32", "lr": 0.01}
    trained(plain, few_digits, spec(**recipe), teacher=teacher)
    trained(compiled, few_digits, spec(**recipe, compile="on"), teacher=teacher)
    weights = [dict(model.named_parameters()) for model in (plain, compiled, start)]
    moved = sum(float((weights[0][name] - weights[2][name]).detach().norm()) for name in weights[0])
    apart = sum(float((weights[0][name] - weights[1][name]).detach().norm()) for name in weights[0])
    assert moved > 0.05
    assert apart < 0.02 * moved, "rounding alone tells them apart"
