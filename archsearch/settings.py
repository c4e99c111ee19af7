"""The environment, typed: every setting of a server, a worker and their shared data folder."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from `ARCHSEARCH_*`; the shell's flags override."""

    model_config = SettingsConfigDict(env_prefix="ARCHSEARCH_", frozen=True, populate_by_name=True)

    data_dir: Path = Field(
        Path("archsearch-data"), description="Folder for everything kept, but a PostgreSQL database."
    )
    database_url: str | None = Field(None, description="SQLAlchemy URL; default: SQLite inside the data folder.")
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8321, ge=0, le=65535, description="Port the API listens on.")
    allowed_hosts: list[str] = Field(
        ["127.0.0.1", "localhost", "[::1]"], description="Host headers the API answers to (JSON list)."
    )
    max_upload_bytes: int = Field(2 * 2**30, ge=1, description="Largest upload.")
    max_part_bytes: int = Field(32 * 2**20, ge=1, description="Largest part of an upload.")
    max_dataset_bytes: int = Field(8 * 2**30, ge=1, description="Largest data set once unpacked.")
    max_examples: int = Field(
        1_000_000,
        ge=1,
        # As it was called when all examples were images.
        validation_alias=AliasChoices("ARCHSEARCH_MAX_EXAMPLES", "ARCHSEARCH_MAX_IMAGES"),
        description="Most examples (images, texts) in a data set.",
    )
    max_classes: int = Field(10_000, ge=2, description="Most classes or labels of a data set.")
    max_side: int = Field(512, ge=4, description="Largest height or width of a data set's images, in pixels.")
    max_image_pixels: int = Field(50_000_000, ge=16, description="Most pixels of one image before it is resized.")
    max_image_bytes: int = Field(64 * 2**20, ge=1, description="Largest file of one image.")
    intake_limit_s: float = Field(3600.0, gt=0, description="Longest that reading a data set or a profile may take.")
    max_attempts: int = Field(5, ge=1, description="How often a job may be started before it is given up.")
    keep_open_uploads_h: float = Field(24, ge=0, description="Hours an upload that is not completed is kept.")
    keep_unused_uploads_days: float = Field(7, ge=0, description="Days a complete upload that nothing names is kept.")
    keep_failed_days: float = Field(
        14, ge=0, description="Days a failed or cancelled job keeps what it could go on from."
    )
    keep_cache_bytes: int = Field(20 * 2**30, ge=0, description="Most bytes of caches; the least recently used go.")
    keep_jobs_days: float | None = Field(None, ge=0, description="Days a job that ended is kept; default: for ever.")
    prune_every_h: float = Field(1.0, ge=0, description="Hours between two prunings by a worker; 0 never prunes.")
    check_time_limit_s: float = Field(600.0, gt=0, description="Longest check of a teacher, its download included.")
    check_memory_bytes: int | None = Field(
        None,
        ge=2**28,
        description="Most memory a check of a teacher, data set or profile may take; default: half of the machine's.",
    )
    pretrained_dir: Path | None = Field(
        None,
        description="Folder of networks with weights that jobs may take for students, each in a folder of its own as "
        "timm saves one (config.json, model.safetensors).",
    )
    gpus: str | None = Field(
        None, description="GPUs that have a worker each, such as 0,1, or all; default: one worker for what there is."
    )
    poll_interval_s: float = Field(0.1, gt=0, description="How often a worker looks for a new job.")

    @property
    def url(self) -> str:
        """The database's URL, with the SQLite default filled in."""
        if self.database_url:
            return self.database_url
        # Quoted: in a URL a question mark would end the path.
        return f"sqlite:///{quote(str(self.data_dir.resolve() / 'archsearch.db'))}"


def user_cache() -> Path:
    """Where this user's runs keep what is dear to make: `$XDG_CACHE_HOME/archsearch`, or `~/.cache/archsearch`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsearch"


def pretrained_dir() -> Path | None:
    """The folder of networks with weights, `ARCHSEARCH_PRETRAINED_DIR`, for server, library and shell alike."""
    named = os.environ.get("ARCHSEARCH_PRETRAINED_DIR")
    return Path(named) if named else None
