"""Of which architecture a checkpoint's tensors are, told from their names and shapes alone."""

# K classes, C channels, H W space

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.errors import ArchsearchError, TeacherError
from archsearch.teachers import index
from archsearch.teachers.index import Ends, Shapes
from archsearch.teachers.network import build

if TYPE_CHECKING:
    from torch import nn

    from archsearch.teachers.state import State

# Architectures torchvision has under the same name, key for key: of several with the same tensors (a pooling without
# weights, another activation) the one that nearly everybody means.
_PLAIN = frozenset(
    [
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
        "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "densenet121", "densenet161", "densenet169",
        "densenet201", "inception_v3",
    ]
)  # fmt: skip
# Other repositories' words for the same layers of a small ResNet (kuangliu/pytorch-cifar and those after it).
_WORDS = ((re.compile(r"\.shortcut\."), ".downsample."), (re.compile(r"^linear\."), "fc."))
# A head that was put inside a Sequential: dropout and one linear layer.
_IN_SEQUENCE = re.compile(r"^(fc|head|classifier|head\.fc|last_linear)\.\d+\.(weight|bias)$")
# Of torchvision's EfficientNets those whose batch norm adds 1e-3 to the variance, as in TensorFlow; timm's add 1e-5.
_TORCHVISION_EPS = {
    name: {"bn_eps": 1e-3}
    for name in (
        "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnetv2_s", "efficientnetv2_m",
        "efficientnetv2_l",
    )
}  # fmt: skip
# How an EfficientNet calls its layers, and so whether it pads as TensorFlow does: torchvision's, and lukemelas's.
_PADDED = ((re.compile(r"features\.\d+\.\d+\.block\."), False), (re.compile(r"_conv_stem\.weight$"), True))
# Networks built for one checkpoint at most.
_MOST_BUILT = 24
# A build's own settings that change nothing of what a network in eval mode answers.
_IDLE = re.compile(r"drop|training|grad_checkpointing|default_cfg|pretrained_cfg|fast_attn|fused|init_values")


@dataclass(frozen=True)
class Match:
    """A network whose tensors are a checkpoint's, name for name and shape for shape.

    Attributes:
        state: The checkpoint's tensors under the network's names.
        same: Other architectures that compute the same with them.
        rivals: Others that have the same tensors and compute something else.
        told: What was assumed, in a sentence; empty where nothing was.
        renamed: Whether the names in the checkpoint were another library's.
    """

    architecture: str
    num_classes: int
    in_chans: int
    model_args: Mapping[str, Any]
    state: State
    same: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    told: str = ""
    renamed: bool = False

    @property
    def kwargs(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "in_chans": self.in_chans, **self.model_args}


def match(state: State) -> Match | None:
    """The network of these tensors; None where no architecture has them.

    Where several have them and compute different things, the one torchvision has too is taken, and else the first by
    name with all others as `rivals`: the caller asks.
    """
    for spelled in _respelled(state):
        shapes = {name: tuple(value.shape) for name, value in spelled.items()}
        found = list(_stock(spelled, shapes)) or list(_small(spelled, shapes))
        if found:
            return _settle(found)
    return None


def match_named(state: State, architecture: str, model_args: Mapping[str, Any] | None = None) -> Match:
    """The tensors as those of a named architecture; raises TeacherError naming what does not fit.

    Where the names are another library's, timm's own translation is tried, and then their order.
    """
    wrong: list[str] = []
    for spelled in _respelled(state):
        shapes = {name: tuple(value.shape) for name, value in spelled.items()}
        for kwargs in _kwargs_for(architecture, shapes, dict(model_args or {})):
            found = differences(shapes, _shapes_of(architecture, kwargs))
            if not found:
                return _match(architecture, kwargs, spelled)
            wrong = min((wrong or found), found, key=len)
            translated = _translated(architecture, kwargs, spelled) or _in_order(architecture, kwargs, spelled)
            if translated is not None:
                return translated
    hint = "; torchvision's is regnetx_004_tv" if architecture == "regnetx_004" else ""
    raise TeacherError(f"the weights are not {architecture}'s: {listed(wrong)}{hint}", field="architecture")


def match_translated(state: State, architectures: Iterable[str]) -> Match | None:
    """The first of some architectures into whose names timm translates the tensors'."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for architecture in architectures:
        for kwargs in _kwargs_for(architecture, shapes, {}):
            found = _translated(architecture, kwargs, state)
            if found is not None:
                return found
    return None


def shapes_for(architecture: str, shapes: Shapes) -> Shapes:
    """The tensors of an architecture with the classes and channels that a checkpoint's shapes tell."""
    return _shapes_of(architecture, next(_kwargs_for(architecture, shapes, {})))


def differences(found: Shapes, wanted: Shapes) -> list[str]:
    """What keeps tensors from being a network's; what old torch did not count is not missing."""
    missing = [name for name in wanted.keys() - found.keys() if not name.endswith("num_batches_tracked")]
    wrong = [f"{name} is missing" for name in missing]
    wrong += [f"{name} is not part of it" for name in found.keys() - wanted.keys()]
    both = wanted.keys() & found.keys()
    return sorted(wrong + [f"{n} is {found[n]} instead of {wanted[n]}" for n in both if found[n] != wanted[n]])


def listed(wrong: Sequence[str], most: int = 3, between: str = "; ") -> str:
    """The first few, and how many more."""
    return between.join(wrong[:most]) + (f" and {len(wrong) - most} more" if len(wrong) > most else "")


def _respelled(state: State) -> Iterator[State]:
    """The tensors as they are named, then under other repositories' words for the same layers."""
    yield state
    other = {_other_words(name): value for name, value in state.items()}
    heads = {name for name in other if _IN_SEQUENCE.match(name)}
    if len({name.rpartition(".")[0] for name in heads}) == 1:  # of one layer; of two, the first is no head
        other = {_IN_SEQUENCE.sub(r"\1.\2", name): value for name, value in other.items()}
    if other.keys() != state.keys() and len(other) == len(state):
        yield other


def _other_words(name: str) -> str:
    for pattern, word in _WORDS:
        name = pattern.sub(word, name)
    return name


def _stock(state: State, shapes: Shapes) -> Iterator[Match]:
    """timm's own architectures."""
    for entry in index.with_tensors(shapes)[:_MOST_BUILT]:
        try:
            for kwargs in _kwargs_for(entry.architecture, shapes, {}):
                if not differences(shapes, _shapes_of(entry.architecture, kwargs)):
                    yield _match(entry.architecture, kwargs, state)
                    break
        except ArchsearchError:  # the index may be of another timm
            continue


def _small(state: State, shapes: Shapes) -> Iterator[Match]:
    """Our own networks for small images, whose arguments are in the shapes."""
    stages = [sum(bool(re.fullmatch(rf"layer{i}\.\d+\.conv1\.weight", name)) for name in shapes) for i in (1, 2, 3, 4)]
    stem = shapes.get("conv1.weight", ())
    if len(stem) != 4 or stem[2:] != (3, 3) or not all(stages[:3]):
        return
    widths = [shapes[f"layer{i}.0.conv1.weight"][0] for i in (1, 2, 3, 4) if stages[i - 1]]
    block = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    told = ""
    if stages[3]:
        name, args = "resnet_small", {"block": block, "layers": stages, "channels": widths, "stem_chs": stem[0]}
        told = (
            "taken for a ResNet without pooling after its 3×3 stem and with strides 1, 1, 2, 2, 2, as for 32×32 pixels"
        )
    else:
        name, args = "cifar_resnet", {"depths": stages[:3], "widths": widths}
        args |= {} if stem[0] == widths[0] else {"stem": stem[0]}
    try:
        for kwargs in _kwargs_for(name, shapes, args):
            if not differences(shapes, _shapes_of(name, kwargs)):
                yield _match(name, kwargs, state, told)
    except ArchsearchError:
        return


def _translated(architecture: str, kwargs: dict[str, Any], state: State) -> Match | None:
    """The tensors as timm loads them where it knows the names of those who first published the architecture."""
    import timm
    import torch

    size = timm.get_pretrained_cfg_value(architecture, "input_size") or (3, 224, 224)
    last = next((value.shape[0] for name, value in reversed(list(state.items())) if value.ndim), 0)
    for classes in dict.fromkeys((kwargs["num_classes"], last)):
        overlay = {"state_dict": dict(state), "num_classes": classes, "input_size": (kwargs["in_chans"], *size[1:])}
        asked = {"pretrained": True, "pretrained_cfg_overlay": overlay, **kwargs, "num_classes": classes}
        try:
            with torch.device("meta"), _quietly():  # filling a large network with noise takes longer than all the rest
                timm.create_model(architecture, **asked)
            model = timm.create_model(architecture, **asked)
        except (RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError):
            continue
        found = _match(architecture, {**kwargs, "num_classes": classes}, model.state_dict())
        return replace(found, told="its names are another library's, translated by timm", renamed=True)
    return None


@contextmanager
def _quietly() -> Iterator[None]:
    """torch warns of every tensor that is loaded into nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _in_order(architecture: str, kwargs: dict[str, Any], state: State) -> Match | None:
    """The tensors under an architecture's names where they have the same shapes in the same order."""
    theirs = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    if not theirs or not theirs[-1].ndim:
        return None
    kwargs = {**kwargs, "num_classes": len(theirs[-1])}
    wanted = index.counted(_shapes_of(architecture, kwargs))
    if [tuple(value.shape) for value in theirs] != list(wanted.values()):
        return None
    _check_padding(architecture, state)
    if any(_PADDED[0][0].match(name) for name in state):
        kwargs = {**_TORCHVISION_EPS.get(architecture, {}), **kwargs}
    found = _match(architecture, kwargs, dict(zip(wanted, theirs, strict=True)))
    return replace(found, told="its names are another library's; tensors were taken in their order", renamed=True)


def _check_padding(architecture: str, state: State) -> None:
    """Raise TeacherError where names say that a network pads otherwise than the architecture of the same tensors."""
    as_tf = architecture.startswith("tf_")
    for pattern, padded in _PADDED:
        if "efficientnet" in architecture and as_tf != padded and any(pattern.match(name) for name in state):
            other = f"tf_{architecture}" if padded else architecture.removeprefix("tf_")
            raise TeacherError(
                f"the weights have the tensors of {architecture}, but are called as those of a network that pads as "
                f"{other} does; name that",
                field="architecture",
            )


def _kwargs_for(architecture: str, shapes: Shapes, args: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments with the classes, channels and image size that the shapes tell; raises UnknownName."""
    import timm

    _shapes_of(architecture, args)  # an unknown name is the caller's error
    config = timm.get_pretrained_cfg(architecture)
    ends = Ends((), ()) if config is None else index.ends_of(config)
    first = shapes.get(f"{ends.first[0]}.weight", ()) if ends.first else ()
    last = shapes.get(f"{ends.last[0]}.weight", ()) if ends.last else ()
    in_chans = first[1] if len(first) == 4 else 3
    kwargs = {"num_classes": last[0] if last else 0, "in_chans": in_chans, **args}
    positions = next((shape for name, shape in shapes.items() if name.endswith("pos_embed") and len(shape) == 3), None)
    if config is not None and positions is not None and len(first) == 4 and "img_size" not in args:
        for extra in (1, 0, 2):  # class tokens among the positions
            side = math.isqrt(max(0, positions[1] - extra))
            if side and side**2 == positions[1] - extra and side * first[2] != config.input_size[1]:
                yield {**kwargs, "img_size": side * first[2]}
    yield kwargs
    if in_chans != 3:
        yield {**kwargs, "in_chans": 3}  # a stem that folds space into channels


def _shapes_of(architecture: str, kwargs: Mapping[str, Any]) -> Shapes:
    return {name: tuple(value.shape) for name, value in _on_meta(architecture, kwargs).state_dict().items()}


def _on_meta(architecture: str, kwargs: Mapping[str, Any]) -> nn.Module:
    import torch

    with torch.device("meta"):
        return build(architecture, kwargs)


def _match(architecture: str, kwargs: dict[str, Any], state: State, told: str = "") -> Match:
    args = {name: value for name, value in kwargs.items() if name not in ("num_classes", "in_chans")}
    return Match(architecture, kwargs["num_classes"], kwargs["in_chans"], args, state, told=told)


def _settle(found: Sequence[Match]) -> Match:
    """One of several with the same tensors, and what the others are to it."""
    if len(found) == 1:
        return found[0]
    behaviours = {each.architecture: _behaviour(_on_meta(each.architecture, each.kwargs)) for each in found}
    known = [each for each in found if each.architecture in _PLAIN]
    taken = (known or sorted(found, key=lambda each: (len(each.architecture), each.architecture)))[0]
    same = [name for name, how in behaviours.items() if how == behaviours[taken.architecture]]
    others = [name for name in behaviours if name not in same]
    same.remove(taken.architecture)
    told = (
        f"it has the same tensors as {', '.join(others)}, which --architecture takes instead"
        if known and others
        else ""
    )
    return replace(taken, same=tuple(same), rivals=tuple(others), told=told or taken.told)


def _behaviour(model: nn.Module) -> tuple[Any, ...]:
    """What decides a network's answers besides its tensors: every module's class and plain settings."""
    return tuple(
        (name, type(module).__name__, tuple(sorted((key, repr(value)) for key, value in vars(module).items()
                                                   if isinstance(value, bool | int | float | str | tuple)
                                                   and not key.startswith("_") and not _IDLE.search(key))))
        for name, module in model.named_modules()
        if not isinstance(module, _idle_classes())
    )  # fmt: skip


def _idle_classes() -> tuple[type, ...]:
    from timm.layers.drop import DropPath
    from torch import nn

    return (nn.Dropout, nn.Identity, DropPath)
