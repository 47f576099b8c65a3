"""One request over real HTTP: whom it follows, how long it waits, how much it reads."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from callsheet.runtime.targets import parse_target
from callsheet.sidecar.dialling import Dialler, public_trust
from callsheet.sidecar.lines import MOST_READ, AnswerUnreadable, LineClosed
from callsheet.sidecar.posting import Answer, Poster
from tests.support.eventually import eventually
from tests.support.receiver import CERTIFICATE, Receiver, Reply

PATIENT = timedelta(seconds=15)
SHORT = timedelta(milliseconds=300)


async def loopback(host: str, port: int, project: str) -> list[str]:
    return ["127.0.0.1"]


def poster_of(*, time_limit: timedelta = PATIENT, trust: ssl.SSLContext | None = None) -> Poster:
    dialler = Dialler(loopback, allow_loopback=True, trust=trust or public_trust())
    return Poster(dialler, time_limit=time_limit)


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    async with poster_of() as poster:
        yield poster


async def posted(poster: Poster, receiver: Receiver) -> Answer:
    return await poster.post(
        parse_target(receiver.url), [("content-type", "text/plain")], b"hello", project="p"
    )


async def test_the_request_is_what_was_asked_for_and_nothing_more(poster: Poster) -> None:
    async with Receiver() as receiver:
        assert await posted(poster, receiver) == Answer(200, "")
        received = receiver.received[0]
        assert (received.path, received.body) == ("/webhooks/task-complete", b"hello")
        assert received.headers == {
            "host": f"127.0.0.1:{receiver.port}",
            "content-type": "text/plain",
            "content-length": "5",
        }


async def test_a_redirect_is_told_and_not_followed(poster: Poster) -> None:
    async with Receiver() as inside:
        async with Receiver(Reply(308, headers={"location": inside.url})) as receiver:
            assert (await posted(poster, receiver)).status == 308
        assert inside.received == []
        assert inside.connections == 0


async def test_proxies_of_the_environment_are_not_asked(
    poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await posted(poster, receiver)
        assert len(receiver.received) == 1
        assert proxy.connections == 0


async def test_a_small_answer_leaves_its_connection_for_the_next_request(poster: Poster) -> None:
    async with Receiver() as receiver:
        for _ in range(3):
            await posted(poster, receiver)
        assert receiver.connections == 1


async def test_an_answer_over_64_kib_costs_its_connection_and_counts(poster: Poster) -> None:
    async with Receiver(Reply(200, body=b"x" * (64 * MOST_READ))) as receiver:
        for _ in range(2):
            assert (await posted(poster, receiver)).status == 200
        assert receiver.connections == 2


async def test_a_bomb_is_not_unpacked(poster: Poster) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    packed = Reply(200, headers={"content-encoding": "gzip"}, body=bomb)
    async with Receiver(packed) as receiver:
        assert (await posted(poster, receiver)).status == 200


async def test_a_body_that_drips_does_not_hold_up_its_status(poster: Poster) -> None:
    async with Receiver(Reply(503, headers={"retry-after": "7"}, unsent=1)) as receiver:
        assert await posted(poster, receiver) == Answer(503, "7")


async def test_an_endpoint_that_never_answers_is_given_up() -> None:
    async with (
        poster_of(time_limit=SHORT) as poster,
        Receiver(Reply(after=asyncio.Event())) as receiver,
    ):
        with pytest.raises(TimeoutError):
            await posted(poster, receiver)


async def test_headers_without_an_end_are_given_up() -> None:
    async with (
        poster_of(time_limit=SHORT) as poster,
        Receiver(Reply(body=b"", unsent=2)) as receiver,
    ):
        with pytest.raises(TimeoutError):
            await posted(poster, receiver)


async def test_a_name_is_checked_by_its_certificate_though_an_address_is_dialled() -> None:
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    async with Receiver(tls=True) as receiver, poster_of(trust=trust) as poster:
        named = parse_target(f"https://hooks.example:{receiver.port}/")
        assert (await poster.post(named, (), b"{}", project="p")).status == 200
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"
        # A kept line to the same address does not serve another name
        other = parse_target(f"https://other.example:{receiver.port}/")
        with pytest.raises(ssl.SSLCertVerificationError):
            await poster.post(other, (), b"{}", project="p")
        assert len(receiver.received) == 1


async def test_a_certificate_that_nobody_vouches_for_is_refused(poster: Poster) -> None:
    async with Receiver(tls=True) as receiver:
        target = parse_target(f"https://hooks.example:{receiver.port}/")
        with pytest.raises(ssl.SSLCertVerificationError):
            await poster.post(target, (), b"{}", project="p")
        assert receiver.received == []


async def test_a_line_that_was_closed_while_nobody_spoke_is_replaced(poster: Poster) -> None:
    async with Receiver(Reply(), Reply(cut=True), Reply()) as receiver:
        await posted(poster, receiver)
        # The second request goes out on the kept line, which is cut; the third on a new one
        assert (await posted(poster, receiver)).status == 200
        assert (len(receiver.received), receiver.connections) == (3, 2)


async def test_an_endpoint_that_hangs_up_at_once_is_asked_once(poster: Poster) -> None:
    async with Receiver(Reply(cut=True)) as receiver:
        with pytest.raises(LineClosed):
            await posted(poster, receiver)
        assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 two-hundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-len",
        b"HTTP/1.1 200 OK\r\n" + b"x-header: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
        b"\0" * 100_000,
    ],
)
async def test_what_is_no_answer_is_a_failure(poster: Poster, answer: bytes) -> None:
    async with Receiver(Reply(raw=answer)) as receiver:
        with pytest.raises(AnswerUnreadable):
            await posted(poster, receiver)


async def test_interim_answers_are_passed_over(poster: Poster) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    answer = Reply(raw=interim + b"HTTP/1.1 204 No Content\r\n\r\n")
    async with Receiver(answer) as receiver:
        assert (await posted(poster, receiver)).status == 204


async def test_lines_are_let_go_when_the_poster_ends() -> None:
    async with Receiver() as receiver:
        async with poster_of() as poster:
            await asyncio.gather(*(posted(poster, receiver) for _ in range(5)))
        assert receiver.connections == 5

        async def hung_up() -> bool:
            return receiver.open_connections == 0

        await eventually(hung_up)
