"""From a timm name, uploaded weights, `local-dir:` or `hf-hub:` to a frozen, checked teacher.

Weights are safetensors and nothing else; whatever else arrives is refused unread.
"""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.metrics import accuracy, answers, average_precisions, macro
from archsearch.data.task import Dataset, Split, Task
from archsearch.errors import InvalidRequest, TeacherError, UnknownName
from archsearch.request import FORBIDDEN_ARGS, LocalTeacher, TimmTeacher, UploadedTeacher, teacher_fields

if TYPE_CHECKING:
    from torch import Tensor, nn

_LARGEST_ARG = 65_536

# Orders of the labels in which a multi-label teacher's answers are read besides the right one.
_WRONG_ORDERS = 10


@dataclass(frozen=True)
class Teacher:
    """A trained network in eval mode, its own normalisation, and what it is known to be.

    Attributes:
        mean, std: Per channel, of pixels in 0-1, as the weights were trained.
        input_hw: Resolution the weights expect; images of another size are resized. None takes them as they are.
        sha256: Of the weights, by name, shape and value.
    """

    name: str
    model: nn.Module
    num_classes: int
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_hw: tuple[int, int] | None
    sha256: str

    @property
    def identity(self) -> str:
        """What its answers depend on: the weights, how it is shown images, and what leaves no trace in weights.

        A transformer's heads or an activation function are arguments that change no weight's shape.
        """
        args = json.dumps(getattr(self.model, "_model_args", {}), sort_keys=True, default=str)
        return f"{self.sha256} {self.mean} {self.std} {self.input_hw} {type(self.model).__name__} {args}"

    def prepare(self, x_BCHW: Tensor) -> Tensor:
        """Images in 0-1 as this teacher wants them: resized and normalised."""
        from torch.nn.functional import interpolate

        if self.input_hw is not None and tuple(x_BCHW.shape[2:]) != self.input_hw:
            x_BCHW = interpolate(x_BCHW, size=self.input_hw, mode="bilinear", antialias=True, align_corners=False)
        return normalise(x_BCHW, self.mean, self.std)

    def logits(self, x_BCHW: Tensor) -> Tensor:
        """Logits B×K of images in 0-1."""
        logits_BK: Tensor = self.model(self.prepare(x_BCHW))
        return logits_BK


def normalise(x_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x − mean) / std, per channel."""
    import torch

    layout = next(
        (each for each in (torch.contiguous_format, torch.channels_last) if x_BCHW.is_contiguous(memory_format=each)),
        torch.contiguous_format,
    )
    size = (x_BCHW.shape[1], x_BCHW.shape[2], x_BCHW.shape[3])
    mean_CHW, std_CHW = (_spread(each, size, x_BCHW.dtype, x_BCHW.device, layout) for each in (mean, std))
    return (x_BCHW - mean_CHW).div_(std_CHW)


@lru_cache(maxsize=32)
def _spread(values: tuple[float, ...], size: tuple[int, int, int], dtype: Any, device: Any, layout: Any) -> Tensor:
    """A value a channel as a whole image in the images' own memory layout.

    With three values instead, kernels would go through channels-last images three numbers at a time, and a GPU would be
    waited for while they are copied there.
    """
    import torch

    with torch.inference_mode(False):  # kept for every caller, so it must not become one's inference tensor
        each_1C11 = torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)
        return each_1C11.expand(1, *size).contiguous(memory_format=layout)


def check_weights_file(path: Path, *, field: str = "upload") -> None:
    """Raise TeacherError unless the file is whole safetensors; needs no torch and reads only the header."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise TeacherError(
            "these are pickled PyTorch weights, which can run code when read; "
            "save them with safetensors.torch.save_file(model.state_dict(), path) and upload that",
            field=field,
        )
    try:
        with safe_open(path, framework="np") as weights:
            if not list(weights.keys()):
                raise TeacherError("the safetensors file holds no tensors", field=field)
    except SafetensorError as error:
        raise TeacherError(f"not a whole safetensors file ({error}); was the upload cut short?", field=field) from None


def check_source(source: TimmTeacher | UploadedTeacher, *, field: str = "source") -> None:
    """What can be refused without torch: prefixes that read this machine's disk, arguments that are not sizes."""
    where, name = ("name", source.name) if isinstance(source, TimmTeacher) else ("architecture", source.architecture)
    prefix, colon, _ = name.partition(":")
    allowed = ("hf-hub", "hf_hub") if isinstance(source, TimmTeacher) else ()
    if colon and prefix not in allowed:
        raise InvalidRequest(f"{prefix}: names no timm model a client may ask for", field=f"{field}.{where}")
    if isinstance(source, UploadedTeacher):
        _check_args(source.model_args, f"{field}.model_args")


def load_teacher(
    source: TimmTeacher | LocalTeacher | UploadedTeacher, weights: Path | None = None, task: Task | None = None
) -> Teacher:
    """Load a teacher strictly; raises TeacherError or UnknownName saying what is wrong with it.

    Args:
        source: Where it comes from.
        weights: The safetensors file of an uploaded teacher.
        task: What it will be asked about: where timm knows a network's classes, they are compared before a download.
    """
    if isinstance(source, UploadedTeacher):
        if weights is None:
            raise TeacherError("the uploaded weights are not at hand", field="upload")
        return _load_uploaded(source, weights)
    if isinstance(source, LocalTeacher):
        if not (source.path / "model.safetensors").is_file() or not (source.path / "config.json").is_file():
            raise TeacherError(f"{source.path} needs config.json and model.safetensors", field="teacher.path")
        return _load_pretrained(f"local-dir:{source.path}", "teacher.path")
    check_source(source, field="teacher")
    if ":" in source.name:
        _require_safetensors(source.name, source.name.partition(":")[2])
        _require_plain_config(source.name)
    else:
        _check_stock(source.name, task)
    return _load_pretrained(source.name, "teacher.name")


def check_teacher(teacher: Teacher, dataset: Dataset) -> float:
    """The teacher's accuracy, of a multi-label task its mAP, on the selection split, in percent.

    Raises TeacherError when it does not fit the data, or knows nothing of it.
    """
    task, look = dataset.task, _label_knowledge if dataset.task.kind == "multilabel" else _class_knowledge
    _check_head(teacher.name, teacher.num_classes, teacher.in_chans, task)
    try:
        measured, bound, told = look(teacher, dataset.selection)
    except (RuntimeError, AssertionError) as error:  # timm asserts the input size
        size = f"{task.height}×{task.width}"
        raise TeacherError(f"{teacher.name} fails on {size} images: {error}; set input_size", field="teacher") from None
    if measured <= bound:
        raise TeacherError(
            f"{teacher.name} {told}. Check the order of the classes and the normalisation (mean, std), or train it",
            field="teacher",
        )
    return measured


def describe_folder(folder: Path) -> dict[str, Any]:
    """The fields of an `UploadedTeacher` (all but `upload`) that a timm `local-dir:` folder's config.json holds."""
    try:
        return teacher_fields(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise TeacherError(f"{folder}/config.json is not timm's: {error}", field="teacher.path") from None


def fingerprint(model: nn.Module) -> str:
    """sha256 of a network's state: names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load_uploaded(source: UploadedTeacher, weights: Path) -> Teacher:
    import torch
    from safetensors.torch import load_file

    check_source(source)
    check_weights_file(weights)
    kwargs = {"num_classes": source.num_classes, "in_chans": source.in_chans, **source.model_args}
    with torch.device("meta"):  # a wrong file is refused before it costs memory
        _require_same_tensors(build(source.architecture, kwargs), weights, source.architecture)
    model = build(source.architecture, kwargs)
    model.load_state_dict(load_file(weights), strict=True)
    return _freeze(
        source.architecture,
        model,
        mean=source.mean,
        std=source.std,
        input_hw=None if source.input_size is None else (source.input_size, source.input_size),
    )


def build(architecture: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """An untrained timm network; every way a client's arguments can be wrong becomes a TeacherError."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    if not timm.is_model(architecture):
        raise UnknownName("timm model", architecture, timm.list_models(), field="architecture")
    try:
        network: nn.Module = timm.create_model(architecture, pretrained=False, **kwargs)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError, IndexError, AttributeError) as error:
        raise TeacherError(
            f"timm cannot build {architecture} with these arguments: {error}", field="model_args"
        ) from None
    return network


def _load_pretrained(name: str, field: str) -> Teacher:
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, the hub and safetensors each raise their own kinds
        raise TeacherError(f"timm cannot load {name}: {type(error).__name__}: {error}", field=field) from error
    config: Any = model.pretrained_cfg
    return _freeze(name, model, config.get("mean"), config.get("std"), tuple(config["input_size"][1:]))


def _freeze(name: str, model: nn.Module, mean: Any, std: Any, input_hw: tuple[int, int] | None) -> Teacher:
    in_chans = int(getattr(model, "in_chans", 0) or _first_convolution(model))
    model.eval().requires_grad_(False)
    bad = [key for key, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise TeacherError(f"{name}: weights are not finite in {', '.join(bad[:3])}", field="upload")
    return Teacher(
        name=name,
        model=model,
        num_classes=int(model.num_classes),  # type: ignore[arg-type]
        in_chans=in_chans,
        mean=tuple(mean or (0.5,) * in_chans),
        std=tuple(std or (0.5,) * in_chans),
        input_hw=input_hw,
        sha256=fingerprint(model),
    )


def _first_convolution(model: nn.Module) -> int:
    from torch import nn

    return next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)


def _require_same_tensors(model: nn.Module, weights: Path, name: str) -> None:
    from safetensors import safe_open

    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    with safe_open(weights, framework="np") as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
    wrong = [f"{key} is missing" for key in wanted.keys() - found.keys()]
    wrong += [f"{key} is not part of it" for key in found.keys() - wanted.keys()]
    wrong += [
        f"{key} is {found[key]} instead of {wanted[key]}" for key in wanted.keys() & found if found[key] != wanted[key]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise TeacherError(f"the weights do not fit {name}: {'; '.join(sorted(wrong)[:3])}{more}", field="upload")


def _check_stock(name: str, task: Task | None) -> None:
    """What timm knows of its own network without a download: that it exists, has safetensors, and for which classes."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    if not timm.is_model(name.partition(".")[0]):
        raise UnknownName("timm model", name, timm.list_models(), field="teacher.name")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag nobody published
        raise TeacherError(str(error), field="teacher.name") from None
    if config is None or not config.hf_hub_id:
        raise TeacherError(
            f"timm has no safetensors weights for {name}; upload a teacher of your own", field="teacher.name"
        )
    if task is not None:
        _check_head(name, config.num_classes, int(config.input_size[0]), task)
    _require_safetensors(name, config.hf_hub_id)


def _check_head(name: str, num_classes: int, in_chans: int, task: Task) -> None:
    if num_classes != task.classes:
        raise TeacherError(
            f"{name} tells {num_classes} classes apart, the data has {task.classes}; use a teacher trained on these",
            field="teacher",
        )
    if in_chans != task.in_chans:
        raise TeacherError(f"{name} expects {in_chans} channels, the data has {task.in_chans}", field="teacher")


def _require_safetensors(name: str, repo: str) -> None:
    """Refuse a hub repository that would have to be unpickled; the file lands in the cache timm reads from."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = repo.partition("@")
    try:
        hf_hub_download(repo, "model.safetensors", revision=revision or None)
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        raise TeacherError(f"{name}: no model.safetensors to be had ({error})", field="teacher.name") from None


def _require_plain_config(name: str) -> None:
    """Refuse a hub repository whose config leads timm past its safetensors, to a file that would be unpickled."""
    from huggingface_hub import hf_hub_download

    repo, _, revision = name.partition(":")[2].partition("@")
    try:
        config = json.loads(Path(hf_hub_download(repo, "config.json", revision=revision or None)).read_text())
        pretrained = config.get("pretrained_cfg", config)
        detours = [key for key in ("hf_hub_filename", "custom_load") if pretrained.get(key)]
    except (OSError, ValueError, AttributeError) as error:  # the hub's errors are OSErrors
        raise TeacherError(f"{name}: no config.json to be had ({error})", field="teacher.name") from None
    if detours:
        raise TeacherError(
            f"{name}: its config.json sets {detours[0]}; only model.safetensors is read", field="teacher.name"
        )


def _class_knowledge(teacher: Teacher, split: Split) -> tuple[float, float, str]:
    """Accuracy, what it has to beat, and both in words.

    A teacher has to beat the best guess by more than luck: three standard errors above the largest class.
    """
    import numpy as np

    measured = accuracy(teacher.logits, split)
    guess = np.bincount(split.y_N).max() / len(split)
    bound = 100 * (guess + 3 * math.sqrt(guess * (1 - guess) / len(split)))
    told = f"is right on {measured:.1f} % of the {len(split)} selection images; guessing reaches {bound:.1f} %"
    return measured, bound, told


def _label_knowledge(teacher: Teacher, split: Split) -> tuple[float, float, str]:
    """Mean average precision, what it has to beat, and both in words.

    The best guess is the labels' mean prevalence, or what the same answers reach read in wrong orders of the labels. A
    network that knows nothing still sees brightness and strokes, and ranks by those better or worse than chance: orders
    of labels tell its luck, where orders of images would not (after Ojala and Garriga 2010, test 1). The guess has to
    be beaten by three standard deviations of those, or three standard errors of a share of as many answers where there
    are few. Half of the way from chance to perfection is knowledge in any case, whatever the labels have in common. Of
    untrained networks 0 in 40 pass with 31 labels, 1 in 32 with ten, 1 in 4 with two (measured).
    """
    import numpy as np

    y_NK = split.y_N
    scores_NK = answers(teacher.logits, split)
    measured = macro(average_precisions(scores_NK, y_NK))
    chance = 100 * float(y_NK[:, y_NK.any(axis=0)].mean())
    turns = np.unique(np.linspace(1, y_NK.shape[1] - 1, _WRONG_ORDERS).astype(int))
    others = [macro(average_precisions(np.roll(scores_NK, turn, axis=1), y_NK)) for turn in turns]
    guess = max(chance, float(np.mean(others)))
    luck = max(float(np.std(others)), math.sqrt(guess * (100 - guess) / y_NK.size))
    bound = min(guess + 3 * luck, (chance + 100) / 2)
    told = (
        f"ranks the {len(split)} selection images with a mAP of {measured:.1f} %; guessing reaches {chance:.1f} %, the "
        f"labels' mean prevalence, and as much as {bound:.1f} % by luck"
    )
    return measured, bound, told


def _check_args(args: Mapping[str, Any], field: str) -> None:
    for name, value in args.items():
        if name in FORBIDDEN_ARGS:
            raise InvalidRequest("is not yours to set; use the fields beside model_args", field=f"{field}.{name}")
        _check_value(value, f"{field}.{name}")


def _check_value(value: Any, field: str) -> None:
    if isinstance(value, list) and len(value) <= 64:
        for item in value:
            _check_value(item, field)
    elif isinstance(value, bool) or (isinstance(value, str) and len(value) <= 64 and "/" not in value):
        return
    elif not isinstance(value, int | float) or not abs(value) <= _LARGEST_ARG:
        raise InvalidRequest(
            f"{value!r} is no size: numbers up to {_LARGEST_ARG}, short words, booleans and lists of them", field=field
        )
