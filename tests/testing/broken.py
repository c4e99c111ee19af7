"""A space, a proxy and a loss that break their word, each in one way; run by test_strangers.py, which expects it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from archsearch.distill.loss import LossInputs, Settings, losses
from archsearch.domains.images.task import ImageTask
from archsearch.evidence import Evidence
from archsearch.proxies import proxies
from archsearch.request import Architecture
from archsearch.spaces import Count, spaces
from archsearch.spaces.count import learned
from archsearch.testing import LossContract, ProxyContract, SpaceContract
from archsearch.testing.space import TASKS

HOUSE = spaces.get("resnet_cifar")


def one_too_many(architecture: Architecture, task: ImageTask) -> Count:
    return HOUSE.count(architecture, task) + learned(1)


def more_than_it_says(ev: Evidence) -> Tensor:
    """Says `samples` and looks at the gradients of the weights, too."""
    seen = torch.stack([layer.snr for layer in ev.samples]).sum()
    return seen + torch.stack([weight.gradient.norm() for weight in ev.gradients]).sum()


def at_once(ev: Evidence) -> float:
    """Looks at its number instead of handing it over."""
    return torch.stack([layer.snr for layer in ev.samples]).sum().item()


def into_the_teacher(inputs: LossInputs, settings: Settings) -> Tensor:
    """Asks for a gradient of the teacher's answers."""
    assert inputs.teacher is not None
    teacher_BK = inputs.teacher.answers_MK.requires_grad_()
    return (inputs.student.answers_MK.float() - teacher_BK.float()).square().mean()


class TestMiscounted(SpaceContract):
    spaces = (replace(HOUSE, name="miscounted", count=one_too_many),)
    tasks = {"8px-gray": TASKS["8px-gray"]}  # noqa: RUF012


class TestUndeclared(ProxyContract):
    proxies = (replace(proxies.get("kd_psi"), name="undeclared", measure=more_than_it_says),)
    students = ("resnet_cifar",)


class TestWaiting(ProxyContract):
    proxies = (replace(proxies.get("kd_psi"), name="waiting", measure=at_once),)
    students = ("resnet_cifar",)


class TestLeaking(LossContract):
    losses = (replace(losses.get("kd"), name="leaking", compute=into_the_teacher, settings=Settings),)
