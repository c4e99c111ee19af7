"""Networks somebody has trained on something else, with a head for these classes: where fine-tuning begins."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.teachers.folder import check_folder
from archsearch.teachers.foreign import refuse_file_name
from archsearch.teachers.hub import check_stock, require_repository

if TYPE_CHECKING:
    from torch import nn

FIELD = "pretrained"


@dataclass(frozen=True)
class Pretrained:
    """A network whose layers below the head are trained.

    Attributes:
        mean, std: Of pixels in 0-1, as the weights were trained; averaged where the data has other channels.
        input_hw: Resolution the weights were trained at.
        told: What was made of the weights, in a sentence.
    """

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_hw: tuple[int, int]
    told: str


def load_pretrained(
    named: str,
    task: ImageTask,
    scratch: Path,
    *,
    input_hw: tuple[int, int],
    architecture: str | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> Pretrained:
    """The network with a new head for the task's classes, and a first layer for its channels.

    Args:
        named: timm model name, `hf-hub:owner/name`, a folder as timm saves it, or a file that `convert` reads.
        scratch: Folder for what a file is converted to.
        input_hw: Resolution it will be asked at; transformers are built for it.
        architecture: Of a file, where it does not tell.
        model_args: Further arguments of `timm.create_model`.

    Raises:
        TeacherError: There are no such weights, or they are not the network's.
        InvalidRequest: The name is another library's.
    """
    source = _source(named, scratch, architecture)
    folder = source.removeprefix("local-dir:") if source.startswith("local-dir:") else None
    weights = None if folder is None else Path(folder) / "model.safetensors"
    return load_stored(source, named, task, input_hw=input_hw, model_args=model_args, weights=weights)


def load_stored(
    source: str,
    named: str,
    task: ImageTask,
    *,
    input_hw: tuple[int, int],
    model_args: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    overlay: Mapping[str, Any] | None = None,
) -> Pretrained:
    """`load_pretrained` of weights that were checked, and fetched, before.

    Args:
        source: What timm is asked for.
        named: What people call it.
        weights: Their file, where its tensors are to be held against the network's: timm passes over what is missing.
        overlay: What timm's configuration is to say otherwise.

    Raises TeacherError as above.
    """
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    args = {"num_classes": task.classes, "in_chans": task.in_chans, **(model_args or {})}
    config = {**configured(source).config, **(overlay or {})}
    if config.get("fixed_input_size") and "img_size" not in args:
        args["img_size"] = input_hw
    try:
        model: Any = timm.create_model(
            source, pretrained=True, pretrained_cfg_overlay=dict(overlay) if overlay else None, **args
        )
    except Exception as error:  # timm, the hub and safetensors each raise their own kinds
        first_line = next(iter(str(error).splitlines()), "")
        raise TeacherError(f"timm cannot load {named}: {type(error).__name__}: {first_line}", field=FIELD) from error
    if weights is not None:
        _require_body(model, weights, named)
    # Of as many classes, but which? A head is theirs, not the data's.
    model.reset_classifier(task.classes)
    first = tuple(config.get("input_size") or (3, 224, 224))
    mean, std = (_channels(config.get(key) or (0.5,), task.in_chans) for key in ("mean", "std"))
    told = f"{named}: all but the head is taken from it"
    if first[0] != task.in_chans:
        told += f"; its first layer, of {first[0]} channels, is made into one of {task.in_chans}"
    return Pretrained(model, mean, std, (first[1], first[2]), told)


def resized(model: nn.Module, input_hw: tuple[int, int]) -> nn.Module:
    """The network shown images of another size than the data's, as `Teacher.prepare` shows them to it."""
    import torch
    from torch.nn.functional import interpolate

    class Resized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model
            # In the state, so that a checkpoint of another size is not gone on from.
            self.register_buffer("input_hw", torch.tensor(input_hw))

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            if tuple(x_BCHW.shape[2:]) != input_hw:
                x_BCHW = interpolate(x_BCHW, size=input_hw, mode="bilinear", antialias=True, align_corners=False)
            logits_BK: torch.Tensor = self.network(x_BCHW)
            return logits_BK

    return Resized()


def _source(named: str, scratch: Path, architecture: str | None) -> str:
    """What timm is asked for; only safetensors are read."""
    path = Path(named.removeprefix("local-dir:"))
    if named.startswith("local-dir:") or path.is_dir():
        check_folder(path, field=FIELD)
        return f"local-dir:{path}"
    if path.is_file():
        from archsearch.teachers.convert import convert_teacher

        convert_teacher(path, scratch, architecture=architecture, overwrite=True)
        return f"local-dir:{scratch}"
    prefix, colon, _ = named.partition(":")
    if colon and prefix not in ("hf-hub", "hf_hub"):
        raise InvalidRequest(
            f"{prefix}: names no timm model; a name, hf-hub:owner/name, a folder or a file", field=FIELD
        )
    refuse_file_name(named, field=FIELD)
    if colon:
        require_repository(named, field=FIELD)
    else:
        check_stock(named, None, field=FIELD)
    return named


@dataclass(frozen=True)
class Configured:
    """timm's configuration of weights: the architecture, the arguments it was built with, and the rest by name."""

    architecture: str
    args: Mapping[str, Any]
    config: Mapping[str, Any]


def configured(source: str) -> Configured:
    """What timm knows of a name of its own, `local-dir:` or `hf-hub:`; raises TeacherError where that is nothing."""
    import timm
    from timm.models._hub import load_model_config_from_hf, load_model_config_from_path

    import archsearch.models  # noqa: F401  (registers with timm)

    prefix, colon, rest = source.partition(":")
    try:
        if colon:
            read = load_model_config_from_path if prefix == "local-dir" else load_model_config_from_hf
            config, architecture, args = read(rest)
            return Configured(architecture, dict(args or {}), dict(config))
        stock: Any = timm.get_pretrained_cfg(source)
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:  # a tag nobody published, a broken file
        raise TeacherError(f"{source}: {next(iter(str(error).splitlines()), '')}", field=FIELD) from None
    if stock is None:
        raise TeacherError(f"{source}: timm has no weights of that name", field=FIELD)
    return Configured(source.partition(".")[0], {}, stock.to_dict())


def _require_body(model: nn.Module, weights: Path, named: str) -> None:
    """Raise unless a file's tensors are the network's, but for its ends: timm passes over what is missing."""
    from safetensors import safe_open

    from archsearch.teachers import index
    from archsearch.teachers.match import differences, listed

    config: Any = model.pretrained_cfg
    free = index.Ends(index.names_of(config.get("first_conv")), index.names_of(config.get("classifier"))).free()
    with safe_open(weights, framework="np") as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found, wanted = (
        {key: shape for key, shape in each.items() if key not in free and not key.endswith("pos_embed")}
        for each in (found, wanted)
    )
    wrong = differences(found, wanted)
    if wrong:
        raise TeacherError(f"the weights of {named} are not its network's: {listed(wrong)}", field=FIELD)


def _channels(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    return tuple(values) if len(values) == in_chans else (sum(values) / len(values),) * in_chans
