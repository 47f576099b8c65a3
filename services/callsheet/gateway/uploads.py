"""`/api/v1/uploads`: files that clients bring, for tasks to work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.artifacts.errors import ArtifactStoreError, KeyRefused
from callsheet.artifacts.keys import DIGEST_DIGITS, upload_key
from callsheet.artifacts.store import ArtifactStore, StoredArtifact
from callsheet.gateway.bodies import query_fields
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.limits import StreamLimit
from callsheet.gateway.media_kinds import (
    HEAD_BYTES,
    KINDS,
    MediaKind,
    kind_of,
    media_type_of_suffix,
)
from callsheet.gateway.plane import Plane
from callsheet.gateway.principals import project_of, require_role
from callsheet.gateway.problems import Refused
from callsheet.gateway.serving_files import file_answer, not_found, store_away
from callsheet.gateway.tasks import json_response
from callsheet.gateway.upload_bodies import UploadBody
from callsheet.gateway.upload_quota import Taking, UploadQuota
from callsheet.gateway.upload_spool import Spool, UploadThreads, spooled

PATH: Final = "/api/v1/uploads"
#: Uploads of one key that are under way at the same time.
_OF_ONE_KEY: Final = 8
#: What is gathered before it is written and hashed, off the loop.
_BLOCK: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """How much uploads may take."""

    #: Bytes of a file.
    largest: int
    #: Uploads under way at the same time, of all and of one project.
    at_once: int
    of_one_project: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was brought, as it is kept."""

    stored: StoredArtifact
    kind: MediaKind


class Uploads:
    """The routes of uploads."""

    def __init__(
        self,
        plane: Plane,
        store: ArtifactStore,
        quota: UploadQuota,
        threads: UploadThreads,
        *,
        limits: UploadLimits,
        folder: Path,
    ) -> None:
        """*folder*: where a file waits until it is whole."""
        self._plane = plane
        self._store = store
        self._quota = quota
        self._threads = threads
        self._largest = limits.largest
        self._folder = folder
        self._of_key = StreamLimit(
            each=_OF_ONE_KEY, total=limits.at_once, what="uploads", reason="UPLOADS_EXHAUSTED"
        )
        self._of_project = StreamLimit(
            each=limits.of_one_project,
            total=limits.at_once,
            what="uploads",
            whose="project",
            reason="PROJECT_UPLOADS_EXHAUSTED",
        )

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route(PATH, self.take, methods=["POST"]),
            Route(f"{PATH}/{{name}}", self.serve, methods=["GET"]),
        ]

    async def take(self, request: Request) -> Response:
        """Take a file, and answer what it is called now: 201."""
        principal = await self._plane.principal(credential_of(request))
        query = query_fields(request)
        asked = query.text("project_id")
        query.done()
        require_role(principal, "submit")
        project = project_of(principal, asked)
        return _taken(await self.brought(request, project), project)

    async def brought(
        self, request: Request, project: str, *, among: Sequence[MediaKind] = KINDS
    ) -> Upload:
        """Keep the file that a request brings, and return it; *among*: of which kinds it may be.

        Whoever calls has made sure that the caller may submit to the project. Raises Refused, and
        then nothing is kept.
        """
        body = UploadBody(request, largest=self._largest)
        with (
            self._of_project.opened(project),
            self._of_key.opened(credential_of(request)),
        ):
            async with (
                self._quota.taking(project, announced=body.announced) as taking,
                spooled(self._folder, self._threads) as spool,
            ):
                kind = await _filled(spool, body, taking, among)
                stored = await self._stored(spool, project, kind)
                await taking.keep(sha256=spool.sha256, size=spool.size)
        return Upload(stored, kind)

    async def serve(self, request: Request) -> Response:
        """Answer the bytes of an upload, or a range of them."""
        principal = await self._plane.principal(credential_of(request))
        require_role(principal, "read")
        project = project_of(principal, request.query_params.get("project_id", ""))
        digest, _, suffix = str(request.path_params["name"]).partition(".")
        media_type = media_type_of_suffix(suffix)
        if media_type is None or len(digest) != DIGEST_DIGITS:
            raise not_found()
        try:
            key = upload_key(project, sha256=digest, suffix=suffix)
            return await file_answer(request, self._store, key, media_type=media_type)
        except KeyRefused:
            raise not_found() from None

    async def _stored(self, spool: Spool, project: str, kind: MediaKind) -> StoredArtifact:
        try:
            return await spool.off_loop(
                lambda: self._store.put_upload(
                    spool.path,
                    project=project,
                    sha256=spool.sha256,
                    media_type=kind.media_type,
                    suffix=kind.suffix,
                )
            )
        except ArtifactStoreError as error:
            raise store_away(error) from error


async def _filled(
    spool: Spool, body: UploadBody, taking: Taking, among: Sequence[MediaKind]
) -> MediaKind:
    """Take the whole body, and return the kind of its file.

    Raises Refused: 415 by its head, 429 past the project's quota.
    """
    kind: MediaKind | None = None
    block = bytearray()
    async for piece in body.pieces():
        block += piece
        if kind is None and len(block) >= HEAD_BYTES:
            kind = kind_of(bytes(block[:HEAD_BYTES]), declared=body.declared, among=among)
        if len(block) >= _BLOCK:
            await taking.need(spool.size + len(block))
            await spool.write(bytes(block))
            block.clear()
    if kind is None:
        if not block:
            raise Refused(HTTPStatus.BAD_REQUEST, "UPLOAD_EMPTY", "the file is empty")
        kind = kind_of(bytes(block), declared=body.declared, among=among)
    await taking.need(spool.size + len(block))
    await spool.write(bytes(block))
    return kind


def _taken(upload: Upload, project: str) -> Response:
    stored, kind = upload.stored, upload.kind
    name = stored.key.rpartition("/")[2]
    url = f"{PATH}/{name}?project_id={project}"
    return json_response(
        {
            "name": name,
            "project_id": project,
            "uri": stored.uri,
            "url": url,
            "media_type": kind.media_type,
            "size_bytes": stored.size,
            "sha256": stored.sha256,
        },
        status=HTTPStatus.CREATED,
        headers={"location": url},
    )
