"""Students on a Hugging Face hub: from there, `timm.create_model("hf-hub:owner/name", pretrained=True)` loads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.errors import ExportError, InvalidRequest
from archsearch.export.files import MANIFEST
from archsearch.export.folder import last_part, public_files, require_student

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_LOCAL = "local-dir:"  # before a folder, in timm's names of models
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def push(
    folder: Path | str,
    repo: str,
    *,
    private: bool,
    token: str | None = None,
    endpoint: str | None = None,
    update: bool = False,
) -> str:
    """Create a model repository and put the student's public files into it, in one commit; returns its address.

    Checkpoints, search records and whatever else lies in the folder stay where they are: only files that
    `files.PUBLIC` names are read.

    Args:
        folder: Holds the student, as `archsearch export` or a finished job leaves it.
        repo: `owner/name`.
        private: Whether only its owner sees it.
        token: Who pushes; by default whoever is logged in, or `HF_TOKEN`.
        endpoint: The hub; by default `HF_ENDPOINT`, or https://huggingface.co.
        update: Push into a repository that exists already, instead of refusing to. It stays as visible as it is, so a
            public one is refused where `private` is asked for.

    Raises:
        InvalidRequest: No student in the folder, or a name no repository can have.
        ExportError: The hub does not answer, or does not take it; or everyone would see what was to be private.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    folder = Path(folder)
    require_student(folder)
    _check_name(repo)
    hub = HfApi(endpoint=endpoint, token=token, library_name="archsearch")
    files = list(public_files(folder))
    try:
        if private and update and _is_public(hub, repo):
            raise ExportError(
                f"{repo} is public, and a push into it would be too: make it private on {hub.endpoint} first, choose "
                "another name, or push without --private (private=False)"
            )
        address = hub.create_repo(repo, private=private, exist_ok=update)
        hub.create_commit(
            repo,
            [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=_public(path)) for path in files],
            commit_message=f"{'Update' if update else 'Add'} a student distilled with archsearch",
        )
    # Answers of the hub; connections that fail, whichever library makes them; uploads that break off half-way.
    except (HfHubHTTPError, HTTPError, OSError, RuntimeError, ValueError) as error:
        raise ExportError(_explain(error, repo, hub.endpoint)) from error
    return str(address)


def _is_public(hub: HfApi, repo: str) -> bool:
    """Whether a repository is there that everyone sees."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not hub.repo_info(repo).private
    except RepositoryNotFoundError:
        return False


def _public(path: Path) -> str | bytes:
    """What is sent of a file: its bytes; of the manifest, without the folders of this machine."""
    if path.name != MANIFEST:
        return str(path)
    return (json.dumps(_without_folders(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n").encode()


def _without_folders(value: Any, key: str | None = None) -> Any:
    """The same, with paths cut to their last part: they help nobody elsewhere, and tell who lives here."""
    if isinstance(value, dict):
        return {name: _without_folders(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(_LOCAL):
        return _LOCAL + last_part(value.removeprefix(_LOCAL))
    # Relative ones are known by the field they stand in.
    is_path = key == "path" or (key == "device" and value.endswith(".json"))
    return last_part(value) if is_path or re.match(r"/|[A-Za-z]:\\|~/", value) else value


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InvalidRequest(_first_line(error), field="repo") from None
    if "/" not in repo:
        raise InvalidRequest(f"{repo!r} does not say whose it is; give owner/name", field="repo")


def _explain(error: Exception, repo: str, endpoint: str) -> str:
    """What happened and what to do about it."""
    cause: Any = error
    while getattr(cause, "response", None) is None and cause.__cause__ is not None:
        cause = cause.__cause__
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status == 401:
        return f"{endpoint} does not know who pushes to {repo}: {_LOG_IN}"
    if status == 403:
        return f"{endpoint} does not let this token write to {repo}: take one that may, or another owner"
    if status == 409:
        return f"{repo} exists already: choose another name, or push into it with --update (update=True)"
    if status is not None:
        return f"{endpoint} refused {repo} with status {status}: {_first_line(cause)}"
    if isinstance(cause, ValueError):
        return f"{endpoint} does not take {repo}: {_first_line(cause)}"
    return (
        f"{endpoint} does not answer ({type(cause).__name__}: {_first_line(cause)}); check the network, HF_ENDPOINT "
        "and HF_HUB_OFFLINE. Where only small files come through, HF_HUB_DISABLE_XET=1 takes the older way"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
