"""A bench, candidates and what they showed, on the way between processes: a safetensors file, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.evidence import NetworkEvidence
from archsearch.proxies.score import Score
from archsearch.request import Architecture
from archsearch.search.bench import Bench, Climb, Rung
from archsearch.spaces import Count, Recipe, Space

if TYPE_CHECKING:
    from torch import Tensor

# Sizes and strides of every tensor: how a batch lies in memory decides which kernels see it.
Layout = dict[str, tuple[list[int], list[int]]]


def packed(bench: Bench) -> tuple[bytes, Layout]:
    """The tensors of a bench as a safetensors file, and how they lie."""
    from safetensors.torch import save

    tensors = {name: _dense(tensor.detach().cpu()) for name, tensor in _tensors(bench).items()}
    layout: Layout = {name: (list(tensor.shape), list(tensor.stride())) for name, tensor in tensors.items()}
    return save({name: tensor.as_strided((tensor.numel(),), (1,)) for name, tensor in tensors.items()}), layout


def unpacked(content: bytes, layout: Layout, told: Mapping[str, Any], seeds: Sequence[int], device: str) -> Bench:
    """The bench that was packed.

    Args:
        told: The task's JSON.
        seeds: Initialisations, of each rung.
    """
    from safetensors.torch import load

    # In memory of their own: what lies in a file's buffer lies at any address.
    flat = load(content)
    found = {name: flat[name].as_strided(*sizes).clone().to(device) for name, sizes in layout.items()}
    return Bench(domains.read_task(told), tuple(_rung(found, i, count) for i, count in enumerate(seeds)))


def asked(space: Space, bench: Bench, architecture: Architecture) -> dict[str, Any]:
    """A candidate as a process is told of it: as its recipe, which is all that a network of any space is."""
    return {
        "space": space.name,
        "architecture": architecture,
        "recipe": asdict(space.model(architecture, bench.task)),
        "count": asdict(space.count(architecture, bench.task)),
    }


def candidate(told: Mapping[str, Any]) -> tuple[Space, Architecture]:
    """A candidate as the process sees it, in a space that knows no other."""
    recipe, count = Recipe(**told["recipe"]), Count(**told["count"])
    space = Space(
        name=told["space"],
        doc="",
        parameters=lambda task: (),
        model=lambda architecture, task: recipe,
        count=lambda architecture, task: count,
        optimizer="sgd",
    )
    return space, told["architecture"]


def heard(answer: Mapping[str, Any]) -> Climb:
    """What a candidate showed, as the process told it."""
    return Climb(tuple(Score(**score) for score in answer["reached"]), answer["reason"])


def _tensors(bench: Bench) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for i, rung in enumerate(bench.rungs):
        teacher = rung.teacher
        named = {"x": rung.x, "y": rung.y_B, "logits": teacher.logits_BK, "ntk": teacher.ntk_BB}
        named |= {"head_gradient": teacher.head_gradient_KD}
        named |= {f"gram{j}": gram_BB for j, gram_BB in enumerate(teacher.grams_BB)}
        found |= {f"{i}/{name}": tensor for name, tensor in named.items() if tensor is not None}
    return found


def _rung(found: Mapping[str, Tensor], i: int, seeds: int) -> Rung:
    grams = sum(name.startswith(f"{i}/gram") for name in found)
    teacher = NetworkEvidence(
        found[f"{i}/logits"],
        tuple(found[f"{i}/gram{j}"] for j in range(grams)),
        found.get(f"{i}/head_gradient"),
        found.get(f"{i}/ntk"),
    )
    return Rung(found[f"{i}/x"], found[f"{i}/y"], teacher, seeds)


def _dense(tensor: Tensor) -> Tensor:
    """The same values without holes or overlaps, and in an order of its own where it had none."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    reach = 1 + sum((size - 1) * stride for size, stride in sizes)
    return tensor if reach == tensor.numel() and tensor.storage_offset() == 0 else tensor.contiguous().clone()
