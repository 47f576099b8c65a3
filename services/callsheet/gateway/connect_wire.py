"""The Connect protocol on the wire: codecs, envelopes, and errors with their details.

As https://connectrpc.com/docs/protocol has it, for calls with one request.
"""

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from callsheet.client.errors import CallError
from callsheet.gateway.bodies import as_object, decoded_json
from callsheet.gateway.problems import Refused
from callsheet.gateway.task_inputs import to_message

#: The domain of our reasons.
DOMAIN: Final = "callsheet.dev"

_ENVELOPE: Final = struct.Struct(">BI")
_COMPRESSED: Final = 0b01
_END: Final = 0b10

#: The status that a unary call's error has in HTTP.
STATUSES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "canceled": 499,
        "unknown": 500,
        "invalid_argument": 400,
        "deadline_exceeded": 504,
        "not_found": 404,
        "already_exists": 409,
        "permission_denied": 403,
        "resource_exhausted": 429,
        "failed_precondition": 400,
        "aborted": 409,
        "out_of_range": 400,
        "unimplemented": 501,
        "internal": 500,
        "unavailable": 503,
        "data_loss": 500,
        "unauthenticated": 401,
    }
)

#: What the edge's own refusals are; what is not here is `unknown`.
_CODES: Final[Mapping[HTTPStatus, str]] = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "invalid_argument",
        HTTPStatus.UNAUTHORIZED: "unauthenticated",
        HTTPStatus.FORBIDDEN: "permission_denied",
        HTTPStatus.NOT_FOUND: "not_found",
        HTTPStatus.REQUEST_TIMEOUT: "deadline_exceeded",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "resource_exhausted",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unimplemented",
        HTTPStatus.TOO_MANY_REQUESTS: "resource_exhausted",
        HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
        HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
    }
)


@dataclass(frozen=True)
class Codec:
    """How messages are written: as bytes or as JSON."""

    #: `proto` or `json`.
    name: str

    def decode(self, content: bytes, kind: type[Message]) -> Message:
        """Return the message. Raises Refused, 400."""
        if self.name == "json":
            return to_message(kind, as_object(decoded_json(content or b"{}")), path="")
        try:
            return kind.FromString(content)
        except DecodeError:
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                "MESSAGE_MALFORMED",
                f"the request is not a well-formed {kind.DESCRIPTOR.full_name}",
            ) from None

    def encode(self, message: Message) -> bytes:
        """Return the message as it is sent."""
        if self.name == "json":
            return json_format.MessageToJson(message, indent=None).encode()
        return message.SerializeToString()


CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {name: Codec(name) for name in ("proto", "json")}
)


@dataclass(frozen=True)
class ConnectError:
    """Why a call failed, in Connect's words."""

    code: str
    message: str
    details: tuple[Message, ...] = ()

    def fields(self) -> dict[str, object]:
        """Return the error's JSON."""
        found: dict[str, object] = {"code": self.code, "message": self.message}
        if self.details:
            found["details"] = [_detail(each) for each in self.details]
        return found


def connect_error(error: CallError | Refused) -> ConnectError:
    """Return the error of a call of the plane, or of the edge itself."""
    metadata: Mapping[str, str] = {}
    if isinstance(error, CallError):
        code = error.code.name.lower().replace("cancelled", "canceled")
        message, metadata, delay = error.message, error.metadata, error.retry_delay
    else:
        code, message = _CODES.get(error.status, "unknown"), error.detail
        delay = error.retry_after
    details: list[Message] = []
    if error.reason:
        details.append(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.violations:
        request = BadRequest()
        for each in error.violations:
            request.field_violations.add(field=each.field, description=each.description)
        details.append(request)
    if delay is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(delay)
        details.append(retry)
    return ConnectError(code, message, tuple(details))


def enveloped(content: bytes) -> bytes:
    """Return one message of a stream."""
    return _ENVELOPE.pack(0, len(content)) + content


def end_of_stream(error: ConnectError | None) -> bytes:
    """Return the last envelope of a stream; with an error, if it did not end well."""
    content = json.dumps({} if error is None else {"error": error.fields()}).encode()
    return _ENVELOPE.pack(_END, len(content)) + content


def single_message(body: bytes) -> bytes:
    """Return the one message in the body of a stream's request. Raises Refused, 400."""
    found = list(_messages(body))
    if len(found) != 1:
        raise _bad_envelope(f"it has {len(found)} messages, not one")
    return found[0]


def _messages(body: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(body):
        if len(body) < place + _ENVELOPE.size:
            raise _bad_envelope("it ends within an envelope's head")
        flags, size = _ENVELOPE.unpack_from(body, place)
        place += _ENVELOPE.size
        if flags & _COMPRESSED:
            raise _bad_envelope("messages are taken uncompressed")
        if len(body) < place + size:
            raise _bad_envelope("it ends within a message")
        if not flags & _END:
            yield body[place : place + size]
        place += size


def _bad_envelope(what: str) -> Refused:
    return Refused(
        HTTPStatus.BAD_REQUEST, "ENVELOPE_MALFORMED", f"the body is no Connect stream: {what}"
    )


def _detail(message: Message) -> dict[str, object]:
    content = base64.b64encode(message.SerializeToString()).decode().rstrip("=")
    return {
        "type": message.DESCRIPTOR.full_name,
        "value": content,
        "debug": json_format.MessageToDict(message),
    }
