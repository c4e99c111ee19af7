"""Files a job made, by opaque id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse

from archsearch.errors import Gone
from archsearch.store import queries
from archsearch.store.models import Artifact

from ..deps import ServicesDep, not_modified
from ..ranges import settle_range
from ..room import Room
from ..schemas import ArtifactAnswer

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "All of it.", "content": _BYTES},
    206: {"description": "The ranges asked for; several come as multipart/byteranges.", "content": _BYTES},
    304: {"description": "The client has it already."},
    410: {"description": "Its file is gone."},
    416: {"description": "There is nothing in the ranges asked for; Content-Range says how much there is."},
}

router = Room(prefix="/artifacts", tags=["artifacts"])


@router.get("/{artifact_id}")
def get(artifact_id: str, services: ServicesDep) -> ArtifactAnswer:
    with services.reading() as session:
        return ArtifactAnswer.model_validate(queries.require(session, Artifact, artifact_id))


@router.get("/{artifact_id}/content", response_class=FileResponse, responses=_CONTENT)
def content(artifact_id: str, request: Request, services: ServicesDep) -> Response:
    """The bytes. Takes Range and If-Range; the ETag is the sha256, so If-None-Match answers 304."""
    with services.reading() as session:
        row: Artifact = queries.require(session, Artifact, artifact_id)
    etag = f'"{row.sha256}"'
    if not_modified(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    path = services.files.artifact(row.path)
    size = path.stat().st_size if path.is_file() else -1
    if size != row.size_bytes:
        lost = "is gone" if size < 0 else f"has {size:,} of {row.size_bytes:,} bytes"
        raise Gone(f"the file of {row.name} {lost}; distil again to have it")
    # FileResponse reads the request again, and would answer what is no range with 400.
    request.scope.update(settle_range(request.scope, etag, size))
    if request.scope["state"].get("head"):
        request.scope["method"] = "HEAD"
    # Those of a student beside the first are named with its folder.
    return FileResponse(path, media_type=row.media_type, filename=Path(row.name).name, headers={"ETag": etag})
