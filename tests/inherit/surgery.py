"""Networks made narrower by hand, and channels made to be of no matter."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from archsearch.inherit.families import layout
from archsearch.inherit.layout import Axis, Groups, Layout, counted
from tests.inherit.networks import copied, noise

Alive = Mapping[str, Tensor]


def channels(model: nn.Module, drawn: Layout) -> dict[str, int]:
    """How many channels each stream has, by its root."""
    found: dict[str, int] = {}
    for name, value in model.state_dict().items():
        for axis, size in zip(drawn.axes[name], value.shape, strict=True):
            if axis is not None and not axis.within:
                root = drawn.rooted(axis.stream)
                found[root] = max(found.get(root, 0), counted(axis, size))
    return found


def narrowed(model: nn.Module, some: Callable[[str], bool], seed: int = 0) -> tuple[nn.Module, dict[str, Groups | int]]:
    """A copy of noise with fewer channels in some streams (by their roots), and how many they are."""
    drawn, made, rng = layout(model), copied(model), random.Random(seed)
    into: dict[str, Groups | int] = {}
    for root, count in channels(model, drawn).items():
        groups = drawn.groups.get(root)
        if not some(root) or count < 2:
            continue
        if groups is not None and groups.size > 1:
            into[root] = Groups(max(2, groups.count - 1), max(1, groups.size // 2)) if groups.count > 2 else groups
        else:
            into[root] = count // 2 if root.endswith("/heads") else rng.randrange(max(1, count // 2), count)
    for name, axes in drawn.axes.items():
        resize(made, name, [share(axis, drawn, into) for axis in axes])
    for module_name, module in made.named_modules():
        stream = next((r.axis.stream for r in drawn.readers if r.module == module_name and r.axis.within), None)
        if stream is not None and isinstance(module, nn.Conv2d):
            size = into.get(drawn.rooted(stream))
            if size is not None:
                module.groups = size.count if isinstance(size, Groups) else size
                module.in_channels = module.out_channels = len(module.weight)
    _fewer_heads(made, into)
    return noise(made), into


def share(axis: Axis | None, drawn: Layout, into: Mapping[str, Groups | int]) -> int | None:
    """How long a dimension is to be; None where it stays."""
    size = None if axis is None else into.get(drawn.rooted(axis.stream))
    if axis is None or size is None:
        return None
    if axis.within:
        return size.size if isinstance(size, Groups) else 1
    count = size.count * size.size if isinstance(size, Groups) else size
    return count * axis.unit * axis.repeat


def resize(model: nn.Module, name: str, shape: list[int | None]) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    old: Tensor = getattr(module, leaf)
    if all(size is None for size in shape):
        return
    new = torch.zeros([old_size if size is None else size for size, old_size in zip(shape, old.shape, strict=True)])
    setattr(module, leaf, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape


def _fewer_heads(model: nn.Module, into: Mapping[str, Groups | int]) -> None:
    heads: Any = next((size for root, size in into.items() if root.endswith("/heads")), None)
    if heads is None:
        return
    for module in model.modules():
        seen: Any = module
        if hasattr(seen, "num_heads") and hasattr(seen, "head_dim"):  # timm's
            seen.num_heads, seen.attn_dim = heads, heads * seen.head_dim
        for name in ("num_attention_heads", "n_heads"):  # the library's
            if isinstance(getattr(seen, name, None), int):
                setattr(seen, name, heads)
    if hasattr(model, "settings"):
        settings: Any = model.settings
        settings[model.family.names["heads"]] = heads  # type: ignore[union-attr,index]


def alive(
    counts: Mapping[str, int], into: Mapping[str, Groups | int], groups: Mapping[str, Groups], seed: int
) -> Alive:
    """Which channels of each stream are to matter, drawn at random; as many as there is room for."""
    draw, found = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for root, size in into.items():
        if isinstance(size, Groups):
            whole = groups[root]
            rows = torch.randperm(whole.count, generator=draw)[: size.count]
            within = [torch.randperm(whole.size, generator=draw)[: size.size] + row * whole.size for row in rows]
            found[root] = torch.cat(within)
        else:
            found[root] = torch.randperm(counts[root], generator=draw)[:size]
    return found


def silence(model: nn.Module, matter: Alive) -> nn.Module:
    """A copy in which nobody reads any channel of these streams but those that are to matter."""
    made, drawn = copied(model), layout(model)
    for reader in drawn.readers:
        root, axis = drawn.rooted(reader.axis.stream), reader.axis
        if root not in matter:
            continue
        weight: Tensor = made.get_submodule(reader.module).weight.data  # type: ignore[union-attr,assignment]
        if axis.within:
            size = weight.shape[1]
            _silence_groups(weight, size, matter[root])
        else:
            dead = torch.ones(counted(axis, weight.shape[1]), dtype=torch.bool)
            dead[matter[root]] = False
            weight[:, dead.repeat_interleave(axis.unit).repeat(axis.repeat)] = 0
    return made


def _silence_groups(weight: Tensor, size: int, matter: Tensor) -> None:
    """Of a convolution in groups of so many channels: O×g×…, each group's outputs read its own inputs."""
    outputs = len(weight)  # as many as inputs
    for channel in sorted(set(range(outputs)) - set(matter.tolist())):
        first = channel // size * size
        weight[first : first + size, channel % size] = 0
