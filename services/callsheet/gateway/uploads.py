"""`/api/v1/uploads`: files that clients bring, for tasks to work on."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.artifacts.errors import ArtifactStoreError, KeyRefused
from callsheet.artifacts.keys import DIGEST_DIGITS, upload_key
from callsheet.artifacts.store import ArtifactStore, StoredArtifact
from callsheet.gateway.bodies import query_fields
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.limits import StreamLimit
from callsheet.gateway.media_kinds import HEAD_BYTES, MediaKind, kind_of, media_type_of_suffix
from callsheet.gateway.plane import Plane
from callsheet.gateway.principals import project_of, require_role
from callsheet.gateway.problems import Refused
from callsheet.gateway.serving_files import file_answer, not_found, store_away
from callsheet.gateway.tasks import json_response
from callsheet.gateway.upload_bodies import UploadBody

PATH: Final = "/api/v1/uploads"
#: Uploads under way at the same time, of one key and of all.
_OF_ONE_KEY: Final = 8
_OF_ALL: Final = 64
#: What is gathered before it is written and hashed, off the loop.
_BLOCK: Final = 2**20


class Uploads:
    """The routes of uploads."""

    def __init__(self, plane: Plane, store: ArtifactStore, *, largest: int, folder: Path) -> None:
        """*largest*: bytes of a file; *folder*: where a file waits until it is whole."""
        self._plane = plane
        self._store = store
        self._largest = largest
        self._folder = folder
        self._under_way = StreamLimit(each=_OF_ONE_KEY, total=_OF_ALL)

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route(PATH, self.take, methods=["POST"]),
            Route(f"{PATH}/{{name}}", self.serve, methods=["GET"]),
        ]

    async def take(self, request: Request) -> Response:
        """Take a file, and answer what it is called now: 201."""
        credential = credential_of(request)
        principal = await self._plane.principal(credential)
        query = query_fields(request)
        asked = query.text("project_id")
        query.done()
        require_role(principal, "submit")
        project = project_of(principal, asked)
        body = UploadBody(request, largest=self._largest)
        with self._under_way.opened(credential):
            async with _spooled(self._folder) as spool:
                kind = await spool.fill(body)
                stored = await self._stored(spool, project, kind)
        return _taken(stored, project, kind)

    async def serve(self, request: Request) -> Response:
        """Answer the bytes of an upload, or a range of them."""
        credential = credential_of(request)
        principal = await self._plane.principal(credential)
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

    async def _stored(self, spool: "_Spool", project: str, kind: MediaKind) -> StoredArtifact:
        try:
            return await asyncio.to_thread(
                self._store.put_upload,
                spool.path,
                project=project,
                sha256=spool.sha256,
                media_type=kind.media_type,
                suffix=kind.suffix,
            )
        except ArtifactStoreError as error:
            raise store_away(error) from error


class _Spool:
    """A file without a name, which is gone with its last reader, whatever happens."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def path(self) -> Path:
        """Where the file can be read while it is open."""
        return Path(f"/proc/self/fd/{self._file.fileno()}")

    @property
    def sha256(self) -> str:
        """The digest of all that was written."""
        return self._digest.hexdigest()

    async def fill(self, body: UploadBody) -> MediaKind:
        """Take the whole body, and return the kind of its file. Raises Refused: 415 by its head."""
        kind: MediaKind | None = None
        block = bytearray()
        async for piece in body.pieces():
            block += piece
            if kind is None and len(block) >= HEAD_BYTES:
                kind = kind_of(bytes(block[:HEAD_BYTES]), declared=body.declared)
            if len(block) >= _BLOCK:
                await asyncio.to_thread(self._write, bytes(block))
                block.clear()
        if kind is None:
            kind = _kind_of_short(bytes(block), declared=body.declared)
        await asyncio.to_thread(self._write, bytes(block))
        return kind

    def _write(self, block: bytes) -> None:
        self._file.write(block)
        self._file.flush()
        self._digest.update(block)


@asynccontextmanager
async def _spooled(folder: Path) -> AsyncGenerator[_Spool]:
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield _Spool(file)
    except OSError as error:
        raise Refused(
            HTTPStatus.INSUFFICIENT_STORAGE,
            "UPLOAD_NOT_KEPT",
            f"the file could not be kept: {error.strerror}",
        ) from error


def _kind_of_short(content: bytes, *, declared: str) -> MediaKind:
    if not content:
        raise Refused(HTTPStatus.BAD_REQUEST, "UPLOAD_EMPTY", "the file is empty")
    return kind_of(content, declared=declared)


def _taken(stored: StoredArtifact, project: str, kind: MediaKind) -> Response:
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
