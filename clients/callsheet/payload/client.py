"""The client: finds media by their hash, and uploads what is not there."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import IO, Final, Self, cast

import httpx

from callsheet.payload.answers import Answer, Json, MediaDocument, document
from callsheet.payload.errors import (
    AnswerMalformed,
    PayloadError,
    PayloadUnavailable,
    RequestRefused,
)

#: What is read of an answer at most.
LARGEST_ANSWER: Final = 2**20
#: The waits before a request is made again, where that is safe; half as much more or less.
WAITS: Final = (timedelta(milliseconds=200), timedelta(milliseconds=800))
#: An upload that is slower than this, in bytes a second, is given up.
SLOWEST: Final = 256 * 2**10
_CONNECT: Final = timedelta(seconds=5)
_LINES: Final = 16


@dataclass(frozen=True, slots=True)
class PayloadPlace:
    """Where a PayloadCMS is, who we are to it, and what its collections are called."""

    #: Of its REST API, such as http://localhost:3010/api.
    url: str
    #: None: it is asked as anybody.
    api_key: str | None = field(default=None, repr=False)
    #: The slug of the collection that the key's user is in.
    users: str = "users"
    #: The slug of the collection of media.
    media: str = "media"
    #: The unique text field of media by which a file is found again.
    hash_field: str = "sourceHash"


@dataclass(frozen=True, slots=True)
class MediaUpload:
    """A file for the media collection; *fields* are those of its document beside the hash."""

    file: IO[bytes]
    filename: str
    media_type: str
    source_hash: str
    fields: Mapping[str, str]


def upload_time(size: int) -> timedelta:
    """Return how long so many bytes may take on their way, beside the time limit of a request."""
    return timedelta(seconds=size / SLOWEST)


class PayloadClient:
    """Asks one PayloadCMS; an async context manager.

    *time_limit* bounds each request, and that of an upload grows with its size (`upload_time`);
    *jitter* returns chances in [0, 1), which spread the *waits* before a request is made again.
    Every method raises PayloadError.
    """

    def __init__(
        self,
        place: PayloadPlace,
        *,
        time_limit: timedelta,
        jitter: Callable[[], float],
        waits: Sequence[timedelta] = WAITS,
    ) -> None:
        self._place = place
        self._time_limit = time_limit
        self._jitter = jitter
        self._waits = waits
        # Plain, so that the size that is read is the size that was sent.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if place.api_key is not None:
            # Word for word: the slug, and these capitals and spaces.
            headers["authorization"] = f"{place.users} API-Key {place.api_key}"
        self._http = httpx.AsyncClient(
            base_url=f"{place.url.rstrip('/')}/",
            headers=headers,
            timeout=httpx.Timeout(None, connect=_CONNECT.total_seconds()),
            limits=httpx.Limits(max_connections=_LINES),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def find_media(self, source_hash: str) -> MediaDocument | None:
        """Return the document with that hash; None: there is none.

        PayloadUnavailable here means that PayloadCMS is away: a search asks for so little.
        """
        try:
            answer = await self._again(lambda: self._find(source_hash), repeatable=True)
        except PayloadUnavailable as error:
            error.is_away = True
            raise
        found = answer.get("docs")
        if not isinstance(found, list):
            raise AnswerMalformed("a search without docs")
        for each in cast("list[object]", found):
            self._require_hash(each, source_hash)
            return document(each)
        return None

    async def register_media(self, upload: MediaUpload) -> MediaDocument:
        """Return the document of the file, which is uploaded only if there is none yet.

        An upload whose answer was lost is not repeated: what came of it is asked.
        """
        return await self.find_media(upload.source_hash) or await self._upload(upload)

    async def _upload(self, upload: MediaUpload) -> MediaDocument:
        try:
            answer = await self._again(lambda: self._post(upload), repeatable=False)
            return document(answer.get("doc"))
        except RequestRefused as error:
            # Somebody else uploaded the same meanwhile: the field is unique.
            found = await self.find_media(upload.source_hash) if error.is_clash else None
            if found is None:
                raise
            return found
        except PayloadUnavailable as error:
            found = await self._found_after(error, upload.source_hash) if error.sent else None
            if found is None:
                raise
            return found

    async def _found_after(
        self, lost: PayloadUnavailable, source_hash: str
    ) -> MediaDocument | None:
        """Return what came of an upload whose answer was lost, as far as anybody can tell."""
        try:
            return await self.find_media(source_hash)
        except PayloadError as error:
            raise PayloadUnavailable(
                f"{lost.message}, and then {error.message}",
                retry_after=error.retry_after if isinstance(error, PayloadUnavailable) else None,
                is_away=isinstance(error, PayloadUnavailable),
                is_open=lost.is_open,
            ) from error

    async def _find(self, source_hash: str) -> Json:
        asked = {
            f"where[{self._place.hash_field}][equals]": source_hash,
            "limit": "1",
            "depth": "0",
        }
        request = self._http.build_request("GET", self._place.media, params=asked)
        return (await self._answer(request, what="a search", limit=self._time_limit)).json()

    async def _post(self, upload: MediaUpload) -> Json:
        size = upload.file.seek(0, os.SEEK_END)
        upload.file.seek(0)
        fields = {**upload.fields, self._place.hash_field: upload.source_hash}
        request = self._http.build_request(
            "POST",
            self._place.media,
            params={"depth": "0"},
            data={"_payload": json.dumps(fields)},
            files={"file": (upload.filename, upload.file, upload.media_type)},
        )
        sending = _Sending(cast("httpx.AsyncByteStream", request.stream))
        request.stream = sending
        limit = self._time_limit + upload_time(size)
        try:
            answer = await self._answer(request, what="an upload", limit=limit)
        except PayloadUnavailable as error:
            error.is_open = sending.is_whole
            raise
        return answer.json()

    def _require_hash(self, found: object, source_hash: str) -> None:
        """Refuse a document that was not asked for: it would be taken for the file's own."""
        name = self._place.hash_field
        known = cast("Mapping[str, object]", found if isinstance(found, dict) else {})
        if known.get(name) != source_hash:
            raise AnswerMalformed(
                f"a search by {name} found a document without it; the collection"
                f" {self._place.media} needs that text field, unique and readable"
            )

    async def _again(self, ask: Callable[[], Awaitable[Json]], *, repeatable: bool) -> Json:
        """Ask, and ask again while the trouble may pass and doing so is safe.

        A request that never left is safe to make again; others only when they are *repeatable*.
        """
        for wait in self._waits:
            try:
                return await ask()
            except PayloadUnavailable as error:
                if (error.sent and not repeatable) or error.retry_after is not None:
                    raise
            await asyncio.sleep(wait.total_seconds() * (0.5 + self._jitter()))
        return await ask()

    async def _answer(self, request: httpx.Request, *, what: str, limit: timedelta) -> Answer:
        """Send the request, and read the answer within the limits of time and size."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                response = await self._http.send(request, stream=True)
                try:
                    body = await _body(response)
                finally:
                    await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise PayloadUnavailable(
                f"{what}: PayloadCMS is away: {_told(error)}", sent=False, is_away=True
            ) from error
        except TimeoutError as error:
            seconds = f"{round(limit.total_seconds(), 1):g}"
            raise PayloadUnavailable(f"{what}: no answer within {seconds} seconds") from error
        except httpx.HTTPError as error:
            raise PayloadUnavailable(f"{what} was cut off: {_told(error)}") from error
        return Answer(response.status_code, body, response.headers.get("retry-after", ""))


class _Sending(httpx.AsyncByteStream):
    """The body of a request, which knows when all of it has gone."""

    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body
        self.is_whole = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body; it has gone when nothing more is asked for."""
        async for chunk in self._body:
            yield chunk
        self.is_whole = True

    async def aclose(self) -> None:
        """Close the body."""
        await self._body.aclose()


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise AnswerMalformed(f"an answer of more than {LARGEST_ANSWER} bytes")
    return bytes(body)


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
