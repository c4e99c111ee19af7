"""Files a job made, by opaque id."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import FileResponse

from archsearch.store import queries
from archsearch.store.models import Artifact

from ..deps import ServicesDep, not_modified
from ..room import Room
from ..schemas import ArtifactAnswer

router = Room(prefix="/artifacts", tags=["artifacts"])


@router.get("/{artifact_id}")
def get(artifact_id: str, services: ServicesDep) -> ArtifactAnswer:
    with services.reading() as session:
        return ArtifactAnswer.model_validate(queries.require(session, Artifact, artifact_id))


@router.get("/{artifact_id}/content", response_class=FileResponse)
def content(artifact_id: str, request: Request, services: ServicesDep) -> Response:
    """The bytes. Takes Range and If-Range; the ETag is the sha256, so If-None-Match answers 304."""
    with services.reading() as session:
        row: Artifact = queries.require(session, Artifact, artifact_id)
    etag = f'"{row.sha256}"'
    if not_modified(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    path = services.files.artifact(row.path)
    return FileResponse(path, media_type=row.media_type, filename=row.name, headers={"ETag": etag})
