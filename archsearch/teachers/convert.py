"""From a checkpoint as trainers leave it to a folder that is a teacher.

Its weights become safetensors, and their network timm's config.json.
"""

# K classes

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.errors import Conflict, InvalidRequest, TeacherError, UnknownName
from archsearch.outfolder import MANIFEST, TRAINING, WORK, clear, owned
from archsearch.teachers.foreign import AS_SAFETENSORS, kind_of
from archsearch.teachers.state import State, read_checkpoint, spellings

if TYPE_CHECKING:
    from torch import nn

    from archsearch.teachers.match import Match

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Conversion:
    """What was found in a file, and what was made of it.

    Attributes:
        folder: Takes the place of a teacher: `--teacher FOLDER`, `{"kind": "local", "path": FOLDER}`.
        key: Where in the file the network lay; empty where the file is nothing else.
        others: Further networks in the file, by where they lie; `key` takes one of them instead.
        prefix: Taken off the tensors' names.
        left_out: Tensors of the file that are none of the network's.
        same: Other architectures that compute the same with these tensors.
        mean, std: Of pixels in 0-1, as given, or as the architecture's own weights are trained with.
        input_size: Height and width in pixels the network will be asked at.
        notes: What was assumed, in sentences.
    """

    folder: Path
    architecture: str
    model_args: Mapping[str, Any]
    num_classes: int
    in_chans: int
    params: int
    tensors: int
    key: str
    others: tuple[str, ...]
    prefix: str
    left_out: tuple[str, ...]
    same: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int]
    notes: tuple[str, ...]


def convert_teacher(
    file: Path | str,
    out: Path | str,
    *,
    architecture: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: int | Sequence[int] | None = None,
    key: str | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Make a teacher's folder of a PyTorch checkpoint or safetensors file; nothing but tensors is read of it.

    The architecture is found among timm's by the tensors' names and shapes, and so are classes and channels.

    Args:
        file: state_dict, or a checkpoint that holds one; or a folder of a config.json of timm's with such weights.
        out: Folder to write; one that holds a teacher already is refused unless `overwrite`.
        architecture: timm model name, where several have the same tensors or the names are another library's.
        model_args: Arguments of timm.create_model that shapes do not tell, such as strides.
        num_classes: What the file should know, to be sure of it.
        classes: Names, in the order of the head.
        mean, std: Per channel, of pixels in 0-1, as the weights were trained.
        input_size: Pixels the weights were trained at: a side, or height and width.
        key: Where in the file the network lies, of several.

    Raises:
        TeacherError: The file holds no network that timm has; the message names the nearest.
        InvalidRequest: An option is wrong.
        Conflict: `out` holds something already.
    """
    file, out = Path(file), Path(out)
    _check_out(out, overwrite)
    file, kept = _weights_of(file)
    architecture = architecture or kept.get("architecture")
    model_args = model_args if model_args is not None else kept.get("model_args")
    checkpoint = read_checkpoint(file, key)
    found, prefix = _find(checkpoint.tensors, architecture, model_args, file.name)
    for said, is_ in ((num_classes, found.num_classes), (len(classes) or None, found.num_classes)):
        if said is not None and said != is_:
            field = "num_classes" if said == num_classes else "classes"
            raise InvalidRequest(f"{said} given, but the head of {file.name} tells {is_} classes apart", field=field)
    if found.rivals and architecture is None and not found.told:
        raise TeacherError(_ask(file, found), field="architecture")
    shown = _Shown.of(found, mean, std, input_size, kept)
    model = _loaded(found)
    with owned(out):
        _check_out(out, overwrite)
        clear(out)
        shutil.rmtree(out / WORK, ignore_errors=True)
        _save(model, found, shown, classes or kept.get("label_names") or (), out)
    return Conversion(
        out,
        found.architecture,
        found.model_args,
        found.num_classes,
        found.in_chans,
        sum(weight.numel() for weight in model.parameters()),
        len(found.state),
        checkpoint.key,
        checkpoint.others,
        prefix,
        tuple(sorted(_left_out(checkpoint.tensors, found))),
        found.same,
        shown.mean,
        shown.std,
        shown.input_hw,
        tuple(_notes(found, shown, mean is not None, input_size is not None)),
    )


def describe_checkpoint(path: Path) -> str:
    """What a file of weights is, and the command that makes a teacher of it."""
    kind = "a safetensors file" if kind_of(path) == "safetensors" else "a PyTorch checkpoint"
    try:
        tensors = read_checkpoint(path).tensors
    except TeacherError as error:
        return f"{path} is a file, and a teacher is a folder with config.json and model.safetensors; {error.detail}"
    told = f"{path} is {kind} of {len(tensors)} tensors"
    command = f"`archsearch convert {path} --out teacher`"
    try:
        found, _ = _find(tensors, None, None, path.name)
    except TeacherError as error:
        return (
            f"{told}, of no architecture that was recognised ({error.detail}); name it: {command} --architecture NAME"
        )
    classes = f"with {found.num_classes} classes" if found.num_classes else "without a head"
    by_hand = "" if kind_of(path) == "safetensors" else f"; for a server, {AS_SAFETENSORS}"
    return f"{told} that looks like {found.architecture} {classes}; run {command} and give --teacher teacher{by_hand}"


@dataclass(frozen=True)
class _Shown:
    """How a converted network is shown images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_hw: tuple[int, int]

    @classmethod
    def of(cls, found: Match, mean: Any, std: Any, input_size: Any, kept: Mapping[str, Any]) -> _Shown:
        import timm

        config: Any = timm.get_pretrained_cfg(found.architecture)
        in_chans, before = found.in_chans, kept.get("pretrained_cfg") or {}
        own = (config.mean, config.std) if in_chans == len(config.mean) else ((0.5,) * in_chans, (0.5,) * in_chans)
        if in_chans == 3 and config.num_classes == 1000 and not config.hf_hub_id:
            own = _IMAGENET
        mean = _channels(mean if mean is not None else before.get("mean", own[0]), in_chans, "mean")
        std = _channels(std if std is not None else before.get("std", own[1]), in_chans, "std")
        asked = input_size if input_size is not None else before.get("input_size", (0, *config.input_size[1:]))[1:]
        args = found.model_args.get("img_size")
        return cls(mean, std, _sides(args if args is not None and input_size is None else asked))


def _find(tensors: State, architecture: str | None, model_args: Any, name: str) -> tuple[Match, str]:
    """The network of the tensors, and the prefix that was taken off their names; raises TeacherError."""
    from archsearch.teachers.match import match, match_named

    refused: TeacherError | None = None
    for prefix, state in spellings(tensors):
        if architecture is None:
            found = match(state)
            if found is not None:
                return found, prefix
            continue
        try:
            return match_named(state, architecture, model_args), prefix
        except UnknownName as error:
            raise UnknownName("timm model", architecture, _known(), field="architecture") from error
        except TeacherError as error:
            found = match(state) if model_args is None else None
            if found is not None and found.architecture == architecture:  # of other sizes than its usual ones
                return found, prefix
            # Of all spellings the one that came nearest is told: the last, with every prefix off.
            refused = error
    if architecture is None:
        translated = _translated(tensors)
        if translated is not None:
            return translated
    if refused is not None:
        raise TeacherError(f"{name}: {refused.detail}", field="architecture")
    raise TeacherError(_nearest(tensors, name), field="architecture")


def _translated(tensors: State) -> tuple[Match, str] | None:
    """The network among those nearest into whose names timm translates the tensors'."""
    from archsearch.teachers import index
    from archsearch.teachers.match import match_translated

    for prefix, state in spellings(tensors):
        near = index.nearest({key: tuple(value.shape) for key, value in state.items()})
        found = match_translated(state, [entry.architecture for entry in near])
        if found is not None:
            return found, prefix
    return None


def _nearest(tensors: State, name: str) -> str:
    """What a checkpoint nobody knows is nearest to, and what differs."""
    from archsearch.teachers import index
    from archsearch.teachers.match import differences, listed, shapes_for

    *_, (_, state) = spellings(tensors)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    ordered = index.in_order(index.counted(shapes).values())
    if ordered:
        return (
            f"the tensors of {name} have another library's names, and the shapes of {listed(ordered, 6, ', ')} in the "
            f"same order; if they are, say so with --architecture, e.g. {ordered[0]}"
        )
    if any(key.startswith("trunk_output.block1.") for key in shapes):
        return f"the tensors of {name} are called as torchvision's RegNets; say which with --architecture regnety_004"
    near = index.nearest(shapes)
    if not near:
        first = ", ".join(list(shapes)[:3])
        return (
            f"the {len(shapes)} tensors of {name} ({first}, …) are no timm architecture's; a teacher is one: "
            "name its architecture, or train one with `archsearch train-teacher --pretrained`"
        )
    wrong = {entry.architecture: differences(shapes, shapes_for(entry.architecture, shapes)) for entry in near}
    best = min(wrong, key=lambda each: len(wrong[each]))
    return f"{name} is nearest to {best}, but {listed(wrong[best])}"


def _ask(file: Path, found: Match) -> str:
    options = [found.architecture, *found.same, *found.rivals]
    more = f" and {len(options) - 8} more" if len(options) > 8 else ""
    return (
        f"{file.name} has the tensors of {', '.join(options[:8])}{more}, which compute different things with them; say "
        "which with --architecture"
    )


def _weights_of(file: Path) -> tuple[Path, dict[str, Any]]:
    """The weights file, and what a config.json of timm's beside it says where a folder is given."""
    if not file.exists():
        raise InvalidRequest(f"{file} is not there", field="file")
    if not file.is_dir():
        return file, {}
    from archsearch.teachers.foreign import check_folder_config, weights_in

    weights = weights_in(file)
    if not weights:
        raise TeacherError(f"{file} has no weights", field="file")
    return weights[0], check_folder_config(file, field="file") if (file / "config.json").is_file() else {}


def _loaded(found: Match) -> nn.Module:
    """The network with its weights; what old torch did not count starts at none."""
    import torch

    from archsearch.teachers.network import build

    with torch.device("meta"):  # its tensors become the checkpoint's own
        model = build(found.architecture, found.kwargs)
    bad = [name for name, value in found.state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise TeacherError(f"weights are not finite in {', '.join(sorted(bad)[:3])}", field="file")
    uncounted = {name: torch.tensor(0) for name in model.state_dict().keys() - found.state.keys()}
    # Copies of their own: safetensors keeps no tensor that shares its memory, or has it in another order.
    state = {name: value.detach().contiguous().clone() for name, value in {**found.state, **uncounted}.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def _save(model: nn.Module, found: Match, shown: _Shown, classes: Sequence[str], out: Path) -> None:
    from timm.models import save_for_hf

    config = {
        "pretrained_cfg": {"tag": "converted", "license": "other", "num_classes": found.num_classes},
        "label_names": [str(name) for name in classes] or None,
    }
    size = (found.in_chans, *shown.input_hw)
    data_config = {"input_size": size, "mean": shown.mean, "std": shown.std, "crop_pct": 1.0}
    save_for_hf(model, str(out), model_config=config, safe_serialization=True, data_config=data_config)


def _check_out(out: Path, overwrite: bool) -> None:
    if out.is_file():
        raise InvalidRequest(f"{out} is a file; name a folder", field="out")
    ours = ("config.json", "model.safetensors", MANIFEST, TRAINING, WORK)
    there = [name for name in ours if (out / name).exists()]
    if there and not overwrite:
        raise Conflict(f"{out} has a {there[0]} already; name another folder, or overwrite it", field="out")


def _left_out(tensors: State, found: Match) -> set[str]:
    used = {id(value) for value in found.state.values()}
    return set() if found.renamed else {name for name, value in tensors.items() if id(value) not in used}


def _notes(found: Match, shown: _Shown, normalised: bool, sized: bool) -> list[str]:
    notes = [found.told] if found.told else []
    if not normalised:
        numbers = ", ".join(f"{value:g}" for value in shown.mean)
        notes.append(f"taken to be trained on pixels normalised with mean {numbers}; if not, say --mean and --std")
    if not sized and "img_size" not in found.model_args:
        height, width = shown.input_hw
        notes.append(f"taken to be trained at {height}×{width} pixels; if not, say --input-size")
    if not found.num_classes:
        notes.append("it has no head, so it is none to learn from yet: archsearch train-teacher --pretrained FOLDER")
    return notes


def _channels(values: Any, in_chans: int, field: str) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    numbers = numbers * in_chans if len(numbers) == 1 else numbers
    if len(numbers) != in_chans:
        raise InvalidRequest(f"{len(numbers)} values for {in_chans} channels", field=field)
    low, high = (-10.0, 10.0) if field == "mean" else (1e-6, 10.0)
    if not all(low <= number <= high for number in numbers):
        raise InvalidRequest(f"of pixels in 0-1: numbers from {low:g} to {high:g}", field=field)
    return numbers


def _sides(size: Any) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(int(side) for side in size)
    if len(sides) != 2 or not all(1 <= side <= 1024 for side in sides):
        raise InvalidRequest("a side of 1 to 1024 pixels, or height and width", field="input_size")
    return sides[0], sides[1]


def _known() -> list[str]:
    import timm

    names: list[str] = timm.list_models()
    return names
