"""What comes in over HTTP and in headers: webhooks, URLs, keys, traces, answers of others."""

import asyncio
import hashlib
import hmac
import socket
from base64 import b64encode
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from ssl import create_default_context
from typing import Final, cast

from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.artifacts.errors import ArtifactStoreError, reason_of
from callsheet.artifacts.ownership import decoded_owner
from callsheet.artifacts.references import artifacts_in, unpacked
from callsheet.client.webhooks import Webhook, WebhookRejected, verify
from callsheet.control.authentication import key_text
from callsheet.control.callbacks import CallbackRules
from callsheet.ledger.access import Principal, Role, Ticket
from callsheet.ledger.errors import InvalidField, KeyInvalid, TicketExpired, UnknownVersion
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.keys import recognise
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.tickets import ID_BYTES, read_ticket, sign_ticket
from callsheet.payload.answers import Answer, MediaDocument, document
from callsheet.payload.errors import PayloadError
from callsheet.runtime.addresses import literal
from callsheet.runtime.targets import Target as WebhookTarget
from callsheet.runtime.targets import TargetRefused, parse_target
from callsheet.runtime.trace import parse_traceparent
from callsheet.sidecar.dialling import AddressRefused, Dialler
from callsheet.sidecar.lines import AnswerUnreadable, Head, Line
from callsheet.sidecar.retries import parse_retry_after
from tests.fuzz.target import Check, Target, plain

NOW: Final = datetime(2027, 3, 1, 12, tzinfo=UTC)
KEY: Final = b"a webhook secret of thirty-two b"
SECRET: Final = "whsec_" + b64encode(KEY).decode()


def _parts(content: bytes, count: int) -> list[bytes]:
    """Split at the lines of a head; the last part is the rest."""
    found = content.split(b"\n", count - 1)
    return found + [b""] * (count - len(found))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _webhook_headers(content: bytes) -> None:
    """Whoever does not know the secret has nothing verified, whatever the headers are."""
    webhook_id, timestamp, signature, body = _parts(content, 4)
    headers = {
        "webhook-id": _text(webhook_id),
        "webhook-timestamp": _text(timestamp),
        "Webhook-Signature": _text(signature),
    }
    try:
        verify(body, headers, SECRET, now=NOW)
    except WebhookRejected:
        return
    genuine = _signed(webhook_id, timestamp, body)
    assert genuine.encode() in signature.split(), "verified without its signature"


def _signed(webhook_id: bytes, timestamp: bytes, body: bytes) -> str:
    digest = hmac.new(KEY, b".".join((webhook_id, timestamp, body)), hashlib.sha256).digest()
    return f"v1,{b64encode(digest).decode()}"


def _webhook_body(content: bytes) -> None:
    """A body that is genuine is one that is understood, or malformed."""
    timestamp = str(int(NOW.timestamp()))
    headers = {
        "webhook-id": "e_t_1",
        "webhook-timestamp": timestamp,
        "webhook-signature": _signed(b"e_t_1", timestamp.encode(), content),
    }
    try:
        found = verify(content, headers, SECRET, now=NOW)
    except WebhookRejected:
        return
    assert isinstance(found, Webhook)
    assert isinstance(found.task_id, str)


class _Recorder:
    """Stands for the network: names have the addresses they spell, else an internal one."""

    def __init__(self) -> None:
        self.dialled: list[str] = []

    async def resolve(self, host: str, port: int, _: str) -> Sequence[str]:
        """Return what the system's resolver would, without asking anybody."""
        try:
            found = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
        except OSError:
            return ["169.254.169.254"]
        return [str(address[0]) for *_, address in found]

    async def connect(self, address: str, *_: object) -> Line:
        """Note who would be dialled."""
        self.dialled.append(address)
        raise OSError("nobody is there")


@contextmanager
def _dialled() -> Generator[Check]:
    with asyncio.Runner() as runner:
        trust = create_default_context()
        rules = CallbackRules(http=True, loopback=False)

        def check(content: bytes) -> None:
            url = content.decode("utf-8", "replace")
            try:
                rules.check(url)
                accepted = True
            except InvalidField:
                accepted = False
            try:
                target = parse_target(url)
            except TargetRefused:
                return
            recorder = _Recorder()
            dialler = Dialler(
                recorder.resolve, allow_loopback=False, trust=trust, connect=recorder.connect
            )
            runner.run(_dial(dialler, target))
            assert all(map(_is_outside, recorder.dialled)), f"{url!r} reached {recorder.dialled}"
            if accepted and _is_numeric(target):
                assert recorder.dialled, f"{url!r} was accepted and goes to an internal address"

        yield check


async def _dial(dialler: Dialler, target: WebhookTarget) -> None:
    try:
        await dialler.dial(target, project="default")
    except (AddressRefused, OSError):
        return


def _is_numeric(target: WebhookTarget) -> bool:
    try:
        socket.getaddrinfo(target.host, target.port, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True


def _is_outside(text: str) -> bool:
    """Whether Python's own tables call the address global, and what it embeds as well."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if any(each is not None and not _is_outside(str(each)) for each in inner):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _host(content: bytes) -> None:
    """What the resolver reads as an address is read as that very address before it."""
    host = content.decode("utf-8", "replace")
    found = literal(host)
    try:
        seen = socket.getaddrinfo(host, 443, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError):
        return
    if not host or "\0" in host:  # C reads up to a zero byte; no URL has one
        return
    told = ip_address(str(seen[0][4][0]).partition("%")[0])
    assert found == told or "%" in host, f"{host!r} is {told}, and was taken for {found}"


def _retry_after(content: bytes) -> None:
    wait = parse_retry_after(content.decode("latin-1"), now=NOW)
    assert wait is None or wait >= timedelta(0)


def _traceparent(content: bytes) -> None:
    found = parse_traceparent(content.decode("utf-8", "replace"))
    if found is not None:
        assert parse_traceparent(str(found)) == found


_HOLDER = Principal("0123abcd", frozenset({"default"}), frozenset(Role))


class _NoKeys:
    """A ledger that knows no key."""

    async def command(self, *_: object) -> None:
        """Return nothing."""


def _api_key(content: bytes) -> None:
    """Metadata with whatever in it names nobody, and is never anything else than KeyInvalid."""
    name, value = _parts(content, 2)
    sent = name.decode("latin-1")
    text = key_text([(sent, value.decode("latin-1")), (sent, value), ("x-api-key", "cs_")])
    try:
        asyncio.run(recognise(cast("RedisConnection", _NoKeys()), Keys("fuzz"), text))
    except KeyInvalid:
        return
    raise AssertionError("nobody has a key")


def _ticket(content: bytes) -> None:
    """A ticket's text that nobody signed with the secret allows nothing."""
    for text in (content.decode("latin-1"), sign_ticket(b"another secret", _ticket_of(content))):
        try:
            read_ticket(text).allows(b"the secret", _HOLDER, now=instant(0))
        except (KeyInvalid, TicketExpired, UnknownVersion):
            continue
        raise AssertionError("nobody signed this")


def _ticket_of(content: bytes) -> Ticket:
    name = content.decode("latin-1")[:64]
    return Ticket("00" * ID_BYTES, name, frozenset(Role), frozenset({name}), instant(1))


def _payload_answer(content: bytes) -> None:
    """PayloadCMS's status, its Retry-After and its body are a document or one of our errors."""
    status, retry_after, body = _parts(content, 3)
    number = int(status) % 1000 if status.isdigit() and len(status) < 9 else 200
    answer = Answer(number, body, retry_after.decode("latin-1"))
    try:
        found = document(answer.json().get("doc"))
    except PayloadError:
        return
    assert isinstance(found, MediaDocument)
    assert found.id


def _store_answer(content: bytes) -> None:
    """What an object store says of a failure becomes a few words, however much it says."""
    assert 0 < len(reason_of(RuntimeError(content.decode("utf-8", "replace")))) < 400


def _owner(content: bytes) -> None:
    try:
        owner = decoded_owner(content)
    except ArtifactStoreError:
        return
    assert decoded_owner(owner.encoded()) == owner


def _output(content: bytes) -> None:
    """A task's output is a message whose artifacts can be told, or none."""
    try:
        list(artifacts_in(unpacked(content)))
    except ValueError:
        return


class _Wire:
    """The transport of a line: closed or not."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, _: bytes) -> None:
        """Lose the request."""

    def abort(self) -> None:
        """Note the end."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self.closed


@contextmanager
def _answered() -> Generator[Check]:
    with asyncio.Runner() as runner:
        yield lambda content: runner.run(_read_answer(content))


async def _read_answer(content: bytes) -> None:
    """An endpoint's answer, in two pieces, is a head or unreadable; then the line has ended."""
    line = Line()
    line.connection_made(cast("asyncio.Transport", _Wire()))
    asked = asyncio.ensure_future(line.ask(b"POST / HTTP/1.1\r\n\r\n"))
    await asyncio.sleep(0)
    half = len(content) // 2
    for part in (content[:half], content[half:]):
        if part:
            line.data_received(part)
    line.connection_lost(None)
    try:
        head = await asked
    except (AnswerUnreadable, OSError):
        head = None
    assert head is None or isinstance(head, Head)
    await line.finish()
    assert line.is_finished


TARGETS: Final = (
    plain("webhook_headers", _webhook_headers),
    plain("webhook_body", _webhook_body),
    Target("callback_url", _dialled),
    plain("host", _host),
    plain("retry_after", _retry_after),
    plain("traceparent", _traceparent),
    plain("api_key", _api_key),
    plain("ticket", _ticket),
    plain("payload_answer", _payload_answer),
    plain("store_answer", _store_answer),
    plain("store_owner", _owner),
    plain("task_output", _output, messages=((b"", AnyMessage),)),
    Target("endpoint_answer", _answered),
)
