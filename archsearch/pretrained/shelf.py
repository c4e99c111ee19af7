"""Networks with weights made ready to be ranked by what they know of a teacher, and students that begin as one."""

# B batch, D features, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.balanced import drawn_rows
from archsearch.data.task import Dataset
from archsearch.device import where
from archsearch.domains.images.task import ImageTask
from archsearch.inherit.start import EXAMPLES
from archsearch.pretrained.facts import Facts, facts
from archsearch.pretrained.head import NoHead, answer_by, features, settle_norms
from archsearch.pretrained.score import Known, known
from archsearch.pretrained.stored import Stored
from archsearch.request import Architecture
from archsearch.spaces import Count, Parameter, Recipe, Space
from archsearch.spaces.choose import PRETRAINED
from archsearch.teachers.pretrained import load_stored

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from archsearch.teachers import Teacher

NETWORK = "network"


@dataclass(frozen=True)
class Member:
    """A network with weights that a task's students may begin as."""

    stored: Stored
    facts: Facts


@dataclass(frozen=True)
class Shelf:
    """Networks with weights, and what a teacher says of some examples.

    Attributes:
        members: In the order of their labels; an architecture counts in them.
        left_out: Why others are none for this task, by label.
        task: As the data say; each network reads it with its own normalisation.
        x: Examples of the training split, as a split gives them.
        logits_BK: What the teacher answers to them.
        theirs_BD: The teacher's own features of them; None where it shows none.
        device: Where networks are asked: the teacher's.
    """

    members: tuple[Member, ...]
    left_out: Mapping[str, str]
    task: ImageTask
    x: Tensor
    logits_BK: Tensor
    theirs_BD: Tensor | None
    device: torch.device

    def space(self) -> Space:
        """The space of these networks: one parameter, which of them."""
        return Space(
            name=PRETRAINED,
            doc="Networks that come with weights.",
            parameters=lambda _: (Parameter(NETWORK, 0, len(self.members) - 1, 1, self._told(), ordered=False),),
            model=lambda architecture, _: self.recipe(architecture),
            count=lambda architecture, _: self.count(architecture),
            optimizer="adamw",
            start="pretrained",
            weights=self.begin,
            reads=self.reads,
            called=lambda architecture: self.member(architecture).stored.label,
            optimizers=lambda architecture: self.member(architecture).facts.optimizer,
        )

    def member(self, architecture: Architecture) -> Member:
        return self.members[architecture[NETWORK]]

    def recipe(self, architecture: Architecture) -> Recipe:
        return self.member(architecture).facts.recipe

    def count(self, architecture: Architecture) -> Count:
        return self.member(architecture).facts.count

    def reads(self, architecture: Architecture, task: Any) -> Any:
        """The task as a network's weights were trained to read it."""
        own = self.member(architecture).facts
        mean, std = (_channels(values, task.in_chans) for values in (own.mean, own.std))
        return replace(task, mean=mean, std=std)

    def begin(self, model: nn.Module, architecture: Architecture) -> None:
        """Give a network, fresh from noise, its weights, and the closed-form head of the teacher's answers.

        Training shows a batch norm the batch's own statistics, which on small images may be far from those the weights
        were trained with: they are taken anew, and the head is fitted to what comes of them.

        Raises:
            NoHead: It has no linear head to be given.
            TeacherError: The weights are not the network's.
        """
        x, before = self._loaded(model, architecture), where(model)
        model.to(self.device)
        settle_norms(model, x)
        answer_by(model, self._known(model, x).head)
        model.to(before)

    def look(self, architecture: Architecture) -> Known:
        """What a network knows of the teacher, by its weights as they were trained; raises as `begin`."""
        model, x = self.stock(architecture)
        return self._known(model, x)

    def stock(self, architecture: Architecture) -> tuple[nn.Module, Tensor]:
        """A network by its weights as they were trained, its head no more than a place for one; and the examples as it
        reads them. Raises as `begin`."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # for what is drawn before the weights take its place
            model = self.space().build(architecture, self.task)
            x = self._loaded(model, architecture)
            return model.to(self.device), x

    def _known(self, model: nn.Module, x: Tensor) -> Known:
        return known(features(model, x), self.logits_BK, self.task.kind, self.theirs_BD)

    def _loaded(self, model: nn.Module, architecture: Architecture) -> Tensor:
        """Load a network's weights into it; returns the examples as it reads them."""
        from safetensors.torch import load_file

        own = self.member(architecture)
        task, stored = self.reads(architecture, self.task), own.stored
        local = stored.source.startswith("local-dir:")
        loaded = load_stored(
            stored.source,
            stored.label,
            task,
            input_hw=(task.height, task.width),
            model_args=own.facts.args,
            weights=stored.weights if local or stored.config else None,
            # Read here: timm tells safetensors by the end of a file's name, and uploads have none.
            overlay=None if local else {**stored.config, "state_dict": load_file(stored.weights)},
        )
        model.load_state_dict(loaded.model.state_dict())
        return domains.of(task).prepare(self.x, task)

    def _told(self) -> str:
        names = ", ".join(f"{i} {member.stored.label}" for i, member in enumerate(self.members))
        return f"which network: {names}"


def make_ready(
    stored: Sequence[Stored],
    teacher: Teacher,
    dataset: Dataset,
    *,
    cache: Path | None = None,
    examples: int = EXAMPLES,
) -> Shelf:
    """Look at what networks are, and at what the teacher says of some examples of the training split, of every class
    alike.

    Args:
        cache: Folder where what networks are is kept for other jobs; None keeps nothing.
    """
    import torch

    task: Any = dataset.task
    members, left_out = list[Member](), dict[str, str]()
    for label, one in sorted({one.label: one for one in stored}.items()):
        found = facts(one, task, cache)
        if isinstance(found, str):
            left_out[label] = found
        else:
            members.append(Member(one, found))
    rows, others = drawn_rows(dataset, min(examples, dataset.training_examples), 0)
    x = dataset.train.examples(rows)
    if dataset.unlabelled is not None and len(others):  # nothing here asks for labels
        x = torch.cat((x, dataset.unlabelled.examples(others)))
    device = where(teacher.model)
    with torch.no_grad():
        logits_BK = teacher.logits(x.to(device)).float().cpu()
    return Shelf(tuple(members), left_out, task, x, logits_BK, _shown(teacher, x), device)


def _shown(teacher: Teacher, x: Tensor) -> Tensor | None:
    """The teacher's own features, where its answers are a linear map of some."""
    try:
        return features(teacher.model, teacher.prepare(x.to(where(teacher.model))))
    except NoHead:
        return None


def _channels(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == in_chans else (sum(values) / len(values),) * in_chans
