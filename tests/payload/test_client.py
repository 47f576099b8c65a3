"""The client of PayloadCMS: against a real one, and against one that fails in every way."""

import asyncio
import io
import json
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from callsheet.payload.client import (
    LARGEST_ANSWER,
    SLOWEST,
    MediaUpload,
    PayloadClient,
    PayloadPlace,
)
from callsheet.payload.errors import (
    AccessRefused,
    AnswerMalformed,
    MediaTooLarge,
    PayloadError,
    PayloadUnavailable,
    RequestRefused,
)
from tests.support.payload_cms import API_KEY, LARGEST_BYTES, PayloadCms
from tests.support.receiver import Receiver, Reply

CONTENT: Final = b"a picture, as far as anybody can tell"
HASH: Final = "default:sha256:00ff"
SECOND: Final = timedelta(seconds=1)
#: Nothing is found.
NONE: Final = Reply(body=b'{"docs": []}')


def upload(source_hash: str = HASH, *, content: bytes = CONTENT) -> MediaUpload:
    fields = {"alt": "a picture", "taskId": "t-1"}
    return MediaUpload(io.BytesIO(content), "film.txt", "text/plain", source_hash, fields)


@asynccontextmanager
async def client(
    place: PayloadPlace, *, time_limit: timedelta = 30 * SECOND
) -> AsyncGenerator[PayloadClient]:
    waits = (SECOND / 100, SECOND / 100)
    async with PayloadClient(place, time_limit=time_limit, jitter=lambda: 0.0, waits=waits) as made:
        yield made


@pytest.fixture
def place(payload: PayloadCms) -> PayloadPlace:
    return PayloadPlace(payload.url, API_KEY)


@pytest.fixture
def fresh() -> str:
    """A hash that nothing has."""
    return f"default:sha256:{uuid.uuid4().hex}"


async def test_an_upload_is_visible_with_its_fields_and_its_bytes(
    payload: PayloadCms, place: PayloadPlace, fresh: str
) -> None:
    async with client(place) as made:
        document = await made.register_media(upload(fresh))
    shown = payload.get(f"media/{document.id}")
    assert (shown["sourceHash"], shown["alt"], shown["taskId"]) == (fresh, "a picture", "t-1")
    assert (shown["mimeType"], shown["filesize"]) == ("text/plain", len(CONTENT))
    assert (payload.folder / "media" / document.filename).read_bytes() == CONTENT
    assert document.url.endswith(document.filename)


async def test_the_same_again_makes_no_second_document_and_no_second_file(
    payload: PayloadCms, place: PayloadPlace, fresh: str
) -> None:
    async with client(place) as made:
        first = await made.register_media(upload(fresh))
        files = payload.files
        assert await made.register_media(upload(fresh)) == first
        assert await made.find_media(fresh) == first
    assert payload.files == files


async def test_the_same_at_once_is_one_document(
    payload: PayloadCms, place: PayloadPlace, fresh: str
) -> None:
    """The field is unique: who comes second is told of the first one's."""
    async with client(place) as made:
        found = await asyncio.gather(*(made.register_media(upload(fresh)) for _ in range(4)))
    assert len({document.id for document in found}) == 1
    asked = {"where[sourceHash][equals]": fresh}
    assert payload.get("media", **asked)["totalDocs"] == 1


async def test_what_is_not_there_is_not_found(place: PayloadPlace, fresh: str) -> None:
    async with client(place) as made:
        assert await made.find_media(fresh) is None


async def test_a_file_that_is_too_large_is_refused_with_the_limit(
    payload: PayloadCms, place: PayloadPlace, fresh: str
) -> None:
    files = payload.files
    large = upload(fresh, content=b"x" * (LARGEST_BYTES + 1))
    async with client(place) as made:
        with pytest.raises(MediaTooLarge, match=f"at most {LARGEST_BYTES} bytes") as refused:
            await made.register_media(large)
        assert (refused.value.limit, refused.value.is_passing) == (LARGEST_BYTES, False)
        assert await made.find_media(fresh) is None
    assert payload.files == files


@pytest.mark.parametrize("api_key", ["00000000-0000-0000-0000-000000000000", None])
async def test_a_key_that_is_not_one_is_refused_and_never_shown(
    place: PayloadPlace, fresh: str, api_key: str | None
) -> None:
    async with client(replace(place, api_key=api_key)) as made:
        with pytest.raises(AccessRefused, match="is PAYLOAD_API_KEY that of a user") as refused:
            await made.register_media(upload(fresh))
    assert refused.value.status == 403
    assert str(api_key) not in str(refused.value)
    assert API_KEY not in repr(place)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"media": "pictures"}, "answered 404"),
        ({"hash_field": "fingerprint"}, "fingerprint"),
        ({"url": "http://127.0.0.1:1/api"}, "PayloadCMS is away"),
    ],
)
async def test_a_wrong_setting_is_told_by_its_consequence(
    place: PayloadPlace, fresh: str, changes: Mapping[str, str], reason: str
) -> None:
    async with client(replace(place, **changes)) as made:
        with pytest.raises(PayloadError, match=reason):
            await made.register_media(upload(fresh))


async def test_a_field_that_is_required_and_missing_is_named(
    place: PayloadPlace, fresh: str
) -> None:
    async with client(place) as made:
        with pytest.raises(RequestRefused, match=r"answered 400: .*alt") as refused:
            await made.register_media(replace(upload(fresh), fields={}))
    assert not refused.value.is_clash


def documents(*found: Mapping[str, object]) -> Reply:
    return Reply(body=json.dumps({"docs": found}).encode())


FOUND: Final = documents({"id": 7, "sourceHash": HASH, "url": "/f", "filename": "film.txt"})


async def asked(*replies: Reply, time_limit: timedelta = 30 * SECOND) -> tuple[str, list[str]]:
    """Register media with a PayloadCMS that replies so; return the id and what it was asked."""
    async with Receiver(*replies) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/api"
        async with client(PayloadPlace(url, API_KEY), time_limit=time_limit) as made:
            document = await made.register_media(upload())
    return document.id, methods(receiver)


def methods(receiver: Receiver) -> list[str]:
    """Return what was asked: a search has a query that names the hash, an upload a file."""
    return ["POST" if CONTENT in request.body else "GET" for request in receiver.received]


async def test_who_asks_says_so_word_for_word() -> None:
    async with Receiver(FOUND) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/api/"
        async with client(PayloadPlace(url, API_KEY, users="people")) as made:
            await made.find_media(HASH)
    (request,) = receiver.received
    assert request.headers["authorization"] == f"people API-Key {API_KEY}"
    assert request.path.startswith("/api/media?where%5BsourceHash%5D%5Bequals%5D=default%3Asha256")


@pytest.mark.parametrize("trouble", [Reply(500), Reply(503, body=b"<html>"), Reply(cut=True)])
async def test_a_search_is_repeated_while_the_trouble_may_pass(trouble: Reply) -> None:
    assert await asked(trouble, trouble, FOUND) == ("7", ["GET", "GET", "GET"])


@pytest.mark.parametrize("trouble", [Reply(500), Reply(502), Reply(cut=True)])
async def test_an_upload_is_not_repeated_but_what_came_of_it_is_asked(trouble: Reply) -> None:
    assert await asked(NONE, trouble, FOUND) == ("7", ["GET", "POST", "GET"])


async def test_an_upload_of_which_nothing_came_failed() -> None:
    async with Receiver(NONE, Reply(500), NONE) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place) as made:
            with pytest.raises(PayloadUnavailable, match="answered 500"):
                await made.register_media(upload())
    assert methods(receiver) == ["GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(500), set[str]()),
        (Reply(502), {"open"}),
        (Reply(503), {"away"}),
        (Reply(504), {"open"}),
        (Reply(429), {"away"}),
        (Reply(cut=True), {"open"}),
    ],
)
async def test_an_upload_that_failed_tells_whether_payload_is_away_and_may_still_be_at_it(
    reply: Reply, told: set[str]
) -> None:
    async with Receiver(NONE, reply, NONE) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place) as made:
            with pytest.raises(PayloadUnavailable) as failed:
                await made.register_media(upload())
    assert (failed.value.is_away, failed.value.is_open) == ("away" in told, "open" in told)


async def test_an_upload_may_still_be_worked_on_when_nobody_can_tell_what_came_of_it() -> None:
    async with Receiver(NONE, Reply(cut=True), Reply(503)) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place) as made:
            with pytest.raises(PayloadUnavailable, match="and then PayloadCMS answered 503") as it:
                await made.register_media(upload())
    assert (it.value.is_away, it.value.is_open) == (True, True)


async def test_a_search_that_fails_means_that_payload_is_away() -> None:
    async with Receiver(Reply(500)) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place) as made:
            with pytest.raises(PayloadUnavailable) as failed:
                await made.find_media(HASH)
    assert failed.value.is_away


async def test_the_larger_a_file_the_longer_it_may_take() -> None:
    """As long as a line takes that is just fast enough."""
    large = upload(content=bytes(SLOWEST // 2))
    async with Receiver(NONE, Reply(after=asyncio.Event())) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place, time_limit=SECOND / 5) as made:
            with pytest.raises(PayloadUnavailable, match=r"an upload: .* 0\.7 seconds") as failed:
                await made.register_media(large)
    assert failed.value.is_open


async def test_a_clash_with_somebody_elses_upload_ends_in_theirs() -> None:
    invalid = {"path": "sourceHash", "message": "Value must be unique"}
    clash = {"errors": [{"message": "invalid", "data": {"errors": [invalid]}}]}
    refused = Reply(400, body=json.dumps(clash).encode())
    assert await asked(NONE, refused, FOUND) == ("7", ["GET", "POST", "GET"])


async def test_who_hangs_is_given_up_after_the_time_limit() -> None:
    never = asyncio.Event()
    async with Receiver(Reply(after=never)) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place, time_limit=SECOND / 5) as made:
            with pytest.raises(
                PayloadUnavailable, match=r"a search: no answer within 0\.2 seconds"
            ):
                await made.find_media(HASH)


async def test_who_asks_to_be_left_alone_is_left_alone() -> None:
    busy = Reply(429, headers={"retry-after": "120"})
    async with Receiver(busy) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place) as made:
            with pytest.raises(PayloadUnavailable) as refused:
                await made.find_media(HASH)
    assert refused.value.retry_after == timedelta(minutes=2)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "reason"),
    [
        (Reply(body=b"<html>"), AnswerMalformed, "200 without a JSON object"),
        (Reply(body=b"[" * 100_000), AnswerMalformed, "200 without a JSON object"),
        (Reply(body=b" " * (LARGEST_ANSWER + 1)), AnswerMalformed, "more than 1048576 bytes"),
        (Reply(body=b'{"docs": {}}'), AnswerMalformed, "a search without docs"),
        (documents({"id": 7}), AnswerMalformed, "needs that text field, unique and readable"),
        (documents({"sourceHash": HASH}), AnswerMalformed, "a document without an id"),
        (documents({"id": True, "sourceHash": HASH}), AnswerMalformed, "without an id"),
        (Reply(301, headers={"location": "/"}), RequestRefused, "redirects are not followed"),
        (Reply(401, body=b"no"), AccessRefused, "answered 401: without a reason"),
        (Reply(404, body=b'{"message": "Route not found"}'), RequestRefused, "Route not found"),
        (Reply(413, body=b"<html>"), MediaTooLarge, "answered 413"),
        (Reply(raw=b"SSH-2.0-OpenSSH\r\n"), PayloadUnavailable, "was cut off"),
    ],
)
async def test_an_answer_that_is_none_is_a_clear_error(
    reply: Reply, kind: type[PayloadError], reason: str
) -> None:
    async with Receiver(reply) as receiver:
        place = PayloadPlace(f"http://127.0.0.1:{receiver.port}/api")
        async with client(place) as made:
            with pytest.raises(kind, match=reason) as caught:
                await made.find_media(HASH)
    assert len(caught.value.message) < 600
