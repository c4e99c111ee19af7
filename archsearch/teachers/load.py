"""From a timm name, uploaded weights, `local-dir:` or `hf-hub:` to a frozen teacher, loaded strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.task import Task
from archsearch.errors import TeacherError
from archsearch.request import ClassMap, LocalTeacher, TimmTeacher, UploadedTeacher
from archsearch.teacher_config import check_normalisation, sides, teacher_fields
from archsearch.teachers.classes import namings_of
from archsearch.teachers.folder import check_folder
from archsearch.teachers.hub import check_stock, require_repository
from archsearch.teachers.index import names_of
from archsearch.teachers.network import build
from archsearch.teachers.order import in_order_of
from archsearch.teachers.size import check_counts, require_weights_fit
from archsearch.teachers.source import check_source, check_weights_file
from archsearch.teachers.teacher import ImageTeacher, fingerprint

if TYPE_CHECKING:
    from torch import nn


def load_teacher(
    source: TimmTeacher | LocalTeacher | UploadedTeacher,
    weights: Path | None = None,
    task: Task | None = None,
    classes: ClassMap | None = None,
    input_size: int | Sequence[int] | None = None,
) -> ImageTeacher:
    """Load a teacher strictly; raises TeacherError or UnknownName saying what is wrong with it.

    Args:
        source: Where it comes from.
        weights: The safetensors file of an uploaded teacher.
        task: What it will be asked about: its outputs are put in the order of the task's classes, by name. Where timm
            knows how many classes a network has, that is compared before a download.
        classes: Which output is which class, where the source does not say itself.
        input_size: Pixels it is asked at, where the source does not say itself.
    """
    given = source.classes if classes is None else classes
    # An upload's own size is its config's, which may be no more than a default.
    asked = input_size if input_size is not None or isinstance(source, UploadedTeacher) else source.input_size
    teacher = _at(_load(source, weights, task if given is None else None), asked)
    return teacher if task is None else in_order_of(task, teacher, given)


def _load(
    source: TimmTeacher | LocalTeacher | UploadedTeacher, weights: Path | None, counted: Task | None
) -> ImageTeacher:
    """The teacher as it comes; `counted` is the task whose classes it has to have as many as."""
    if isinstance(source, UploadedTeacher):
        if weights is None:
            raise TeacherError("the uploaded weights are not at hand", field="upload")
        return _load_uploaded(source, weights)
    if isinstance(source, LocalTeacher):
        config = check_folder(source.path, field="teacher.path")
        _check_config(config, source.path)
        return _load_pretrained(f"local-dir:{source.path}", "teacher.path", config)
    check_source(source, field="teacher")
    if ":" in source.name:
        path, config = require_repository(source.name)
        # From the folder it was fetched into: timm would ask the hub once more.
        return _load_pretrained(f"local-dir:{path.parent}", "teacher.name", config, name=source.name)
    weights = check_stock(source.name, counted)
    return replace(_load_pretrained(source.name, "teacher.name", {}, weights=weights), size_known=True)


def _at(teacher: ImageTeacher, input_size: int | Sequence[int] | None) -> ImageTeacher:
    """The teacher at the resolution somebody asks for."""
    if input_size is None:
        return teacher
    height, width = sides(input_size)
    config: Any = getattr(teacher.model, "pretrained_cfg", None) or {}
    if config.get("fixed_input_size") and teacher.input_hw not in (None, (height, width)):
        built = "×".join(map(str, teacher.input_hw or ()))
        raise TeacherError(f"{teacher.name} is built for {built} pixels alone", field="teacher.input_size")
    return replace(teacher, input_hw=(height, width), size_known=True)


def _check_config(config: Any, folder: Path) -> None:
    """Raise TeacherError where a folder's config is not whole, or of another head than its weights: timm would give
    such a network a head of noise without a word."""
    from safetensors import SafetensorError, safe_open

    if "pretrained_cfg" not in config:  # an old flat one of timm's, which has its own defaults for all of this
        return
    try:
        classes = teacher_fields(config)["num_classes"]
    except ValueError as error:
        raise TeacherError(f"{folder}/config.json: {error}", field="teacher.path") from None
    try:
        with safe_open(folder / "model.safetensors", framework="np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise TeacherError(f"{folder}/model.safetensors is not whole ({error})", field="teacher.path") from None
    for name in names_of(config["pretrained_cfg"].get("classifier")):
        rows = shapes.get(f"{name}.weight", (classes,))[0]
        if rows != classes:
            raise TeacherError(
                f"{folder}/config.json: num_classes is {classes}, but the weights' {name} tells {rows} classes apart",
                field="teacher.path",
            )
    if (built := (config.get("model_args") or {}).get("num_classes", classes)) != classes:
        raise TeacherError(
            f"{folder}/config.json: num_classes is {classes}, model_args.num_classes {built!r:.60}: the weights have "
            "one head, if any; correct the wrong one",
            field="teacher.path",
        )


def _load_uploaded(source: UploadedTeacher, weights: Path) -> ImageTeacher:
    import torch
    from safetensors.torch import load_file

    check_source(source)
    check_counts(source.model_args, "model_args", tensors=check_weights_file(weights))
    kwargs = {"num_classes": source.num_classes, "in_chans": source.in_chans, **source.model_args}
    with torch.device("meta"):  # a wrong file is refused before it costs memory
        sketch = build(source.architecture, kwargs)
    _require_same_tensors(sketch, weights, source.architecture)
    require_weights_fit(sketch, source.architecture)
    model = build(source.architecture, kwargs)
    model.load_state_dict(load_file(weights), strict=True)
    return _freeze(
        source.architecture,
        model,
        mean=source.mean,
        std=source.std,
        input_hw=None if source.input_size is None else sides(source.input_size),
        config={"label_names": source.class_names, "config": source.config},
    )


def _load_pretrained(
    where: str, field: str, file: Any, *, name: str | None = None, weights: Path | None = None
) -> ImageTeacher:
    """A network timm loads by itself.

    Args:
        where: What timm calls it.
        file: Its config.json, for the names timm leaves unread.
        name: What we call it, where that is something else.
        weights: Of a stock network, as they were fetched; else timm knows where they are.
    """
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    name = name or where
    overlay: Any = {} if weights is None else {"pretrained_cfg_overlay": {"file": str(weights)}}
    try:
        model = timm.create_model(where, pretrained=True, **overlay)
    except Exception as error:  # timm, the hub and safetensors each raise their own kinds
        raise TeacherError(f"timm cannot load {name}: {type(error).__name__}: {error}", field=field) from error
    config: Any = model.pretrained_cfg
    named = {**config, **file} if isinstance(file, dict) else config
    return _freeze(name, model, config.get("mean"), config.get("std"), tuple(config["input_size"][1:]), named)


def _freeze(
    name: str, model: nn.Module, mean: Any, std: Any, input_hw: tuple[int, int] | None, config: Any
) -> ImageTeacher:
    in_chans = int(getattr(model, "in_chans", 0) or _first_convolution(model))
    model.eval().requires_grad_(False)
    bad = [key for key, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise TeacherError(f"{name}: weights are not finite in {', '.join(bad[:3])}", field="upload")
    mean, std = mean or (0.5,) * in_chans, std or (0.5,) * in_chans
    try:
        for key, values in (("mean", mean), ("std", std)):
            check_normalisation(key, values, in_chans, f"config.pretrained_cfg.{key}")
    except ValueError as error:
        raise TeacherError(f"{name}: {error}", field="teacher") from None
    return ImageTeacher(
        name=name,
        model=model,
        num_classes=int(model.num_classes),  # type: ignore[arg-type]
        in_chans=in_chans,
        mean=tuple(mean),
        std=tuple(std),
        input_hw=input_hw,
        sha256=fingerprint(model),
        namings=namings_of(config, int(model.num_classes)),  # type: ignore[arg-type]
    )


def _classifier(model: nn.Module) -> Any:
    """The name of the layer that answers, by timm's configuration."""
    return (getattr(model, "pretrained_cfg", None) or {}).get("classifier")


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
    heads = {f"{name}.{part}" for name in names_of(_classifier(model)) for part in ("weight", "bias")}
    sizes = {key for key in wanted.keys() & found if found[key] != wanted[key]}
    if sizes and sizes <= heads and len(wrong) == len(sizes):
        rows = found[min(sizes)][0]
        raise TeacherError(
            f"the weights tell {rows} classes apart, num_classes says {wanted[min(sizes)][0]}", field="num_classes"
        )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise TeacherError(f"the weights do not fit {name}: {'; '.join(sorted(wrong)[:3])}{more}", field="upload")
