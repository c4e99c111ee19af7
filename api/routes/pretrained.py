"""Networks with weights that jobs may take for students."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import Query

from archsearch import bounded
from archsearch.domains.images.sizes import ImageSizes
from archsearch.domains.images.task import ImageTask
from archsearch.errors import Unavailable
from archsearch.pretrained.facts import find_out, unknown
from archsearch.pretrained.listing import listed
from archsearch.pretrained.stored import at_hand

from ..deps import LOCK_PATIENCE_S, Services, ServicesDep
from ..room import Room
from ..schemas import PretrainedAnswer

router = Room(tags=["catalogue"])

_COUNTED_IN_S = 30


@router.get("/pretrained")
def list_pretrained(
    services: ServicesDep,
    classes: Annotated[int, Query(ge=2, le=10_000)] = 10,
    image_size: Annotated[int, Query(ge=4, le=1024, description="Height and width of the images, in pixels.")] = 32,
    in_chans: Annotated[int, Query(ge=1, le=16, description="Channels of the images.")] = 3,
) -> list[PretrainedAnswer]:
    """Networks with weights at hand, with what each costs on images of this size; a size nobody has asked about yet is
    counted first, which takes seconds."""
    task: ImageTask = ImageSizes(image_size=image_size, in_chans=in_chans).task(classes)
    stored = at_hand(services.settings.pretrained_dir)
    if unknown(stored, task, services.files.evidence):
        _find_out(services, task)
    rows = listed(stored, task, services.files.evidence)
    return [PretrainedAnswer.model_validate(row) for row in rows]


def _find_out(services: Services, task: ImageTask) -> None:
    """Count what nobody has counted, in a process of its own; one at a time."""
    if not services.counting.acquire(timeout=LOCK_PATIENCE_S):
        raise Unavailable("networks are being counted for another request", retry_after_s=_COUNTED_IN_S)
    try:
        folder: Path | None = services.settings.pretrained_dir
        bounded.run(
            find_out,
            {
                "folder": None if folder is None else str(folder),
                "cache": str(services.files.evidence),
                "task": asdict(task),
            },
            what="counting the networks",
            limit_s=services.settings.check_time_limit_s,
            memory_bytes=services.settings.check_memory_bytes,
        )
    finally:
        services.counting.release()
