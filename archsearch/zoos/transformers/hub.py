"""An encoder's files from the hub: the few that are read, and never a pickle or a program."""

from __future__ import annotations

from pathlib import Path

from archsearch.errors import InvalidRequest, TeacherError, Unavailable
from archsearch.teachers.hub import fetch_file
from archsearch.zoos.transformers.folder import CONFIG, TOKENIZER, WEIGHTS, require_encoder

PREFIXES = ("hf-hub", "hf_hub")
# What a tokenizer is opened with beside the file that has all of it; few repositories lack them.
_WELCOME = ("tokenizer_config.json", "special_tokens_map.json")


def fetch_folder(name: str, *, field: str = "teacher.name") -> Path:
    """The folder of a repository (`hf-hub:owner/name`, `@revision` at will) with the files an encoder is read from.

    Raises:
        TeacherError: The repository lacks one of them.
        Unavailable: The hub does not answer, and they were not fetched before.
    """
    prefix, colon, repo = name.partition(":")
    if not colon or prefix not in PREFIXES:
        raise InvalidRequest(f"{name} is no repository; say hf-hub:owner/name", field=field)
    config = fetch_file(name, repo, CONFIG, field)
    require_encoder(config.parent, field=field)  # before anything large is fetched
    needed = [config, *(fetch_file(name, repo, file, field) for file in (TOKENIZER, WEIGHTS))]
    for file in _WELCOME:
        _fetch_if_there(name, repo, file, field)
    folders = {path.parent for path in needed}
    if len(folders) > 1:
        raise Unavailable(f"{name} changed while it was fetched", field=field)
    return folders.pop()


def at_hand(name: str) -> bool:
    """Whether the files of a repository were fetched before."""
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = name.partition(":")[2].partition("@")
    kept = (try_to_load_from_cache(repo, file, revision=revision or None) for file in (CONFIG, TOKENIZER, WEIGHTS))
    return all(isinstance(path, str) for path in kept)


def local_folder(place: str | Path, *, field: str = "teacher.name") -> Path:
    """A folder as it is, or the one a repository's files were fetched into."""
    named = isinstance(place, str) and place.partition(":")[0] in PREFIXES and ":" in place
    return fetch_folder(str(place), field=field) if named else Path(place)


def _fetch_if_there(name: str, repo: str, file: str, field: str) -> None:
    """Nobody has to have it."""
    try:
        fetch_file(name, repo, file, field)
    except (TeacherError, Unavailable):
        return
