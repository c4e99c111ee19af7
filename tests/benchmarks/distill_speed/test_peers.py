from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from archsearch.distill.group import Group
from archsearch.distill.train import train
from archsearch.domains.image_classification import DOMAIN
from archsearch.domains.images.normalise import normalise
from archsearch.domains.images.views import Views
from benchmarks.distill_speed.floor import floor
from benchmarks.distill_speed.ours import as_teacher
from benchmarks.distill_speed.plain_loop import plain, plain_loader, research_loss
from benchmarks.distill_speed.protocol import peers_of
from benchmarks.distill_speed.report import installed
from benchmarks.distill_speed.setting import Setting, student_of, teacher_of
from benchmarks.distill_speed.timm_loop import distillation_task, timm_loader
from benchmarks.distill_speed.torchdistill_loop import distillation_box
from benchmarks.distill_speed.turns import go_on

# B batch, C channels, H W space, N images, V views


def test_all_have_the_same_loss_for_the_same_weights_and_views(setting: Setting) -> None:
    task, spec = setting.dataset.task, setting.spec
    batch = next(iter(DOMAIN.loader(setting.dataset, spec, "cpu", Group()).epoch(0, 0)))
    x_BCHW = normalise(batch.x, task.mean, task.std)

    def both() -> tuple[torch.nn.Module, torch.nn.Module]:
        return student_of(setting), teacher_of(setting)

    student, teacher = both()
    with torch.no_grad():
        expected = research_loss(student(x_BCHW), teacher(x_BCHW), batch.y).item()
    assert expected > 0.1
    theirs = distillation_task(*both(), "cpu").train()(x_BCHW, batch.y)["loss"]
    assert theirs.item() == pytest.approx(expected, rel=1e-5)
    if installed("torchdistill"):
        box = distillation_box(*both(), setting)
        box.pre_epoch_process(epoch=0)
        assert box.forward_process(x_BCHW, batch.y, None).item() == pytest.approx(expected, rel=1e-5)
    # Ours from outside: a training of one step, which shows these views and reports the loss it had.
    for cache, close in ((None, 1e-5), (setting.home, 1e-3)):
        student, teacher = both()
        *_, last = train(student, setting.dataset, spec, teacher=as_teacher(teacher, task), cache=cache)
        assert last.steps == 1
        assert last.loss == pytest.approx(expected, rel=close)


def test_all_loaders_show_the_same_crops_and_flips(setting: Setting) -> None:
    task, split = setting.dataset.task, setting.dataset.train
    views = Views(4, 4, mirrored=True)
    x_NHWC = torch.from_numpy(split.x_NHWC).repeat_interleave(views.count, 0)
    x_VCHW = views.apply(x_NHWC, torch.arange(views.count).repeat(len(split)))
    known_V = normalise(x_VCHW / 255, task.mean, task.std).flatten(1)
    seen: set[int] = set()
    for x_BCHW, y_B in first_batches(setting):
        distance_BV = torch.cdist(x_BCHW.flatten(1), known_V)
        nearest_B = distance_BV.argmin(1)
        assert distance_BV.min(1).values.max() < 0.05, "an image is in none of the views"
        assert torch.equal(split.labels()[nearest_B // views.count], y_B)
        seen |= set((nearest_B % views.count).tolist())
    assert len(seen) > 3


def first_batches(setting: Setting) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    x_BCHW, y_B, index_B = next(iter(plain_loader(setting)))
    assert torch.equal(setting.dataset.train.labels()[index_B], y_B)
    yield x_BCHW, y_B
    x_BCHW, y_B = next(iter(timm_loader(setting)))
    yield x_BCHW, y_B
    if installed("torchdistill"):
        networks = student_of(setting), teacher_of(setting)
        x_BCHW, y_B, _ = next(iter(distillation_box(*networks, setting).train_data_loader))
        yield x_BCHW, y_B


def test_everyone_trains(setting: Setting) -> None:
    """Each loop's steps change its student, and a loop goes on over the ends of epochs."""
    changed: list[tuple[object, float]] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        weights = [weight.detach() for group in optimizer.param_groups for weight in group["params"]]
        changed.append((id(optimizer), sum(weight.double().sum().item() for weight in weights)))

    loops = {
        "plain": plain(setting),
        **peers_of(setting),
        "floor": floor(setting),
    }
    hook = register_optimizer_step_post_hook(look)
    try:
        for name, loop in loops.items():
            changed.clear()
            go_on(loop, 3, "cpu")
            loop.close()
            assert len({optimizer for optimizer, _ in changed}) == 1, name
            assert len({value for _, value in changed}) == 3, name
    finally:
        hook.remove()
