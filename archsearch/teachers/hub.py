"""What is asked of a stock network or a hub's repository before timm loads it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from archsearch.data.task import Task
from archsearch.errors import TeacherError, Unavailable, UnknownName
from archsearch.memory import machine_bytes
from archsearch.teachers.check import check_head
from archsearch.teachers.foreign import describe_transformers
from archsearch.teachers.teacher import check_channels
from archsearch.whole import is_full

_TRANSPORTS = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "h2"}
_ASK_AGAIN_S = 60
# Of what is no weights; the largest tokenizer in use, of a quarter of a million tokens, has 33 MB.
MOST_FILE_BYTES = 64 * 2**20


def check_stock(name: str, task: Task | None, *, field: str = "teacher.name") -> Path:
    """What timm knows of its own network without a download: that it exists, has safetensors, and for which classes.

    Returns the weights, fetched.
    """
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
        check_head(name, config.num_classes, task)
        check_channels(name, int(config.input_size[0]), task)
    return require_safetensors(name, config.hf_hub_id, field=field)


def require_safetensors(name: str, repo: str, *, field: str = "teacher.name") -> Path:
    """A hub repository's weights, on this machine; refused where there are only such as would have to be unpickled.

    Raises:
        Unavailable: The hub does not answer, and the file was not fetched before.
    """
    return fetch_file(name, repo, "model.safetensors", field)


def require_plain_config(name: str, *, field: str = "teacher.name") -> tuple[Path, dict[str, Any]]:
    """A hub repository's config.json, and what it holds; refused where it leads timm past the safetensors.

    Raises Unavailable as above.
    """
    path = fetch_file(name, name.partition(":")[2], "config.json", field)
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        pretrained = config.get("pretrained_cfg", config)
        detours = [key for key in ("hf_hub_filename", "custom_load") if pretrained.get(key)]
    except (OSError, ValueError, AttributeError) as error:
        raise TeacherError(f"{name}: its config.json cannot be read ({error})", field=field) from None
    if detours:
        raise TeacherError(f"{name}: its config.json sets {detours[0]}; only model.safetensors is read", field=field)
    return path, config


def require_repository(name: str, *, field: str = "teacher.name") -> tuple[Path, dict[str, Any]]:
    """The config.json and the weights of a repository that timm loads, on this machine; returns as above.

    What another library's config.json describes is refused before its weights are fetched.
    """
    path, config = require_plain_config(name, field=field)
    if "pretrained_cfg" not in config and "model_type" in config:
        raise TeacherError(describe_transformers(name, config), field=field)
    require_safetensors(name, name.partition(":")[2], field=field)
    return path, config


def at_hand(name: str) -> bool:
    """Whether loading a stock network or hub repository waits for no network: it was fetched before, or is none."""
    from huggingface_hub import try_to_load_from_cache

    repo, revision = _repository(name)
    return not repo or isinstance(try_to_load_from_cache(repo, "model.safetensors", revision=revision), str)


def fetch_file(name: str, repo: str, file: str, field: str) -> Path:
    """A file of a repository, from the cache or the hub; one that could not be used is never fetched for its size."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    repo, _, revision = repo.partition("@")
    try:
        # Asked once and briefly first: the download itself would try again for minutes.
        url = hf_hub_url(repo, file, revision=revision or None)
        size = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT).size
        if size is None or size <= _most_bytes(file):
            return Path(hf_hub_download(repo, file, revision=revision or None))
    except Exception as error:  # the hub's, the file system's, and those of whatever library speaks HTTP
        if is_full(error):  # which says nothing of the repository
            raise
        kept = try_to_load_from_cache(repo, file, revision=revision or None) if _is_away(error, offline=True) else None
        if isinstance(kept, str):
            return Path(kept)
        if _is_away(error):
            raise Unavailable(
                f"{name}: the hub does not answer, and {file} was not fetched before",
                field=field,
                retry_after_s=_ASK_AGAIN_S,
            ) from error
        reason = next(iter(str(error).splitlines()), "")
        raise TeacherError(f"{name}: no {file} to be had ({type(error).__name__}: {reason})", field=field) from None
    raise TeacherError(f"{name}: {file} has {size:,} bytes, at most {_most_bytes(file):,} are fetched", field=field)


def _most_bytes(file: str) -> int:
    """Weights have to go into memory; what stands beside them is small."""
    return machine_bytes() if file.endswith(".safetensors") else MOST_FILE_BYTES


def _is_away(error: BaseException, *, offline: bool = False) -> bool:
    """Whether the hub itself does not answer, or answers that it cannot: nothing is known of the repository then.

    Args:
        offline: Whether a hub that is not to be asked (HF_HUB_OFFLINE) counts.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OfflineModeIsEnabled):
            return offline
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(status, int):
            return status == 429 or status >= 500
        # No answer at all: the errors of the libraries that huggingface_hub has spoken HTTP through.
        if isinstance(each, ConnectionError | TimeoutError) or type(each).__module__.partition(".")[0] in _TRANSPORTS:
            return True
        each = each.__cause__ or each.__context__
    return False


def _repository(name: str) -> tuple[str, str | None]:
    """The hub's repository and revision that a teacher's name stands for."""
    if ":" in name:
        repo = name.partition(":")[2]
    else:
        import timm

        repo = ""
        with suppress(RuntimeError):  # a tag nobody published
            config = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
            repo = (config.hf_hub_id or "") if config else ""
    repo, _, revision = repo.partition("@")
    return repo, revision or None
