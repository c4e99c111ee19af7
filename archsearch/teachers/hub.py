"""What is asked of a stock network or a hub's repository before timm loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archsearch.data.task import Task
from archsearch.errors import TeacherError, UnknownName
from archsearch.teachers.check import check_head


def check_stock(name: str, task: Task | None, *, field: str = "teacher.name") -> None:
    """What timm knows of its own network without a download: that it exists, has safetensors, and for which classes."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    if not timm.is_model(name.partition(".")[0]):
        raise UnknownName("timm model", name, timm.list_models(), field=field)
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag nobody published
        raise TeacherError(str(error), field=field) from None
    if config is None or not config.hf_hub_id:
        raise TeacherError(f"timm has no safetensors weights for {name}; upload a teacher of your own", field=field)
    if task is not None:
        check_head(name, config.num_classes, int(config.input_size[0]), task)
    require_safetensors(name, config.hf_hub_id, field=field)


def require_safetensors(name: str, repo: str, *, field: str = "teacher.name") -> None:
    """Refuse a hub repository that would have to be unpickled; the file lands in the cache timm reads from."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = repo.partition("@")
    try:
        hf_hub_download(repo, "model.safetensors", revision=revision or None)
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        raise TeacherError(f"{name}: no model.safetensors to be had ({error})", field=field) from None


def require_plain_config(name: str, *, field: str = "teacher.name") -> dict[str, Any]:
    """A hub repository's config.json; refused where it leads timm past its safetensors, to what would be unpickled."""
    from huggingface_hub import hf_hub_download

    repo, _, revision = name.partition(":")[2].partition("@")
    try:
        config: dict[str, Any] = json.loads(
            Path(hf_hub_download(repo, "config.json", revision=revision or None)).read_text()
        )
        pretrained = config.get("pretrained_cfg", config)
        detours = [key for key in ("hf_hub_filename", "custom_load") if pretrained.get(key)]
    except (OSError, ValueError, AttributeError) as error:  # the hub's errors are OSErrors
        raise TeacherError(f"{name}: no config.json to be had ({error})", field=field) from None
    if detours:
        raise TeacherError(f"{name}: its config.json sets {detours[0]}; only model.safetensors is read", field=field)
    return config
