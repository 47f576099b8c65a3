"""The one envelope of `/ws`, as JSON text: what clients may send, and what they are sent.

The README of this folder has its fields; what is not there is refused by name.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from callsheet.client.errors import Violation
from callsheet.gateway.rooms.room_names import PROJECT_PATTERN, ROOM_PATTERN

Id: TypeAlias = Annotated[str, Meta(max_length=64)]
Room: TypeAlias = Annotated[str, Meta(max_length=160, pattern=ROOM_PATTERN)]
Project: TypeAlias = Annotated[str, Meta(pattern=PROJECT_PATTERN)]
Sequence: TypeAlias = Annotated[int, Meta(ge=0, lt=2**53)]
Epoch: TypeAlias = Annotated[str, Meta(max_length=64)]
Cursor: TypeAlias = Annotated[str, Meta(max_length=128)]

# Where in the text, or in which field, a refusal of msgspec says that the fault is.
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_FIELD: Final = re.compile(r" - at `\$\.?([^`]*)`$|field `([^`]*)`")


class EnvelopeInvalid(Exception):
    """A text is no envelope of a client's."""

    def __init__(self, message: str, *, reason: str, field: str = "") -> None:
        super().__init__(message)
        #: MESSAGE_MALFORMED: no JSON; FIELD_INVALID: not as the envelope has it.
        self.reason = reason
        #: The field at fault. Empty: none alone.
        self.violations = (Violation(field, message),) if field else ()


class _Sent(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    #: The client's own name for the message; the answer bears it too.
    id: Id = ""


class _Named(Struct, frozen=True):
    id: Id = ""


class Authenticate(_Sent, tag="AUTHENTICATE", frozen=True, kw_only=True):
    """Says who the client is; the first message of one that sent no key before."""

    key: Annotated[str, Meta(min_length=1, max_length=4096)]

    def __repr__(self) -> str:
        return "Authenticate(key=***)"


class Join(_Sent, tag="JOIN", frozen=True, kw_only=True):
    """Asks to be told what happens in a room, from behind a sequence on."""

    room: Room
    project: Project = ""
    sequence: Sequence | None = None
    epoch: Epoch = ""
    #: Of the room of a project: whether what happens to its tasks is told there too.
    tasks: bool = False
    #: The cursor of the last TASK_UPDATE seen in the room of a project.
    cursor: Cursor = ""


class Leave(_Sent, tag="LEAVE", frozen=True, kw_only=True):
    """Asks to be told no more of a room."""

    room: Room
    project: Project = ""


class Published(_Sent, frozen=True, kw_only=True):
    """Something that clients tell one another, in a room or alone."""

    room: Room = ""
    project: Project = ""
    #: The connection that alone is told. Empty: who is in the room.
    to: Annotated[str, Meta(max_length=64)] = ""
    #: Whether only the newest counts: it takes no sequence, and may be missed.
    signal: bool = False
    data: dict[str, Any] = {}


class WorkflowUpdate(Published, tag="WORKFLOW_UPDATE", frozen=True):
    """How far a workflow is."""


class NetworkUpdate(Published, tag="NETWORK_UPDATE", frozen=True):
    """A network was made, changed or removed."""


class CollaborationUpdate(Published, tag="COLLABORATION_UPDATE", frozen=True):
    """What somebody does in a shared work."""


class Notification(Published, tag="NOTIFICATION", frozen=True):
    """A word to people."""


class Ping(_Sent, tag="PING", frozen=True):
    """Asks for a sign of life; it is answered with PONG."""


class Pong(_Sent, tag="PONG", frozen=True):
    """Answers a PING."""


Received: TypeAlias = (
    Authenticate
    | Join
    | Leave
    | WorkflowUpdate
    | NetworkUpdate
    | CollaborationUpdate
    | Notification
    | Ping
    | Pong
)
Publication: TypeAlias = WorkflowUpdate | NetworkUpdate | CollaborationUpdate | Notification

_RECEIVED: Final = msgspec.json.Decoder(Received)
_NAMED: Final = msgspec.json.Decoder(_Named)
_PUBLICATION: Final = msgspec.json.Decoder(Publication)
_ENCODER: Final = msgspec.json.Encoder()


def decode(text: str) -> Received:
    """Return the envelope of a client. Raises EnvelopeInvalid."""
    return _decoded(_RECEIVED, text)


def id_of(text: str) -> str:
    """Return the id in what may be no envelope; '' when none can be found."""
    try:
        return _NAMED.decode(text).id
    except (ValueError, RecursionError):
        return ""


def decode_publication(content: bytes) -> Publication:
    """Return an envelope that may be published. Raises EnvelopeInvalid."""
    return _decoded(_PUBLICATION, content)


def encode(type_: str, **fields: object) -> str:
    """Return an envelope of the server: the fields that say something, in the order given.

    Raises EnvelopeInvalid for values that JSON cannot have.
    """
    said = {
        name: value
        for name, value in fields.items()
        if value is not None and value is not False and value != ""  # zero says something
    }
    return encode_fields({"type": type_} | said).decode()


def encode_fields(fields: Mapping[str, object]) -> bytes:
    """Return the fields as JSON. Raises EnvelopeInvalid for values that it cannot have."""
    try:
        return _ENCODER.encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeInvalid(str(error), reason="FIELD_INVALID", field="data") from error


def error_envelope(
    reason: str,
    message: str,
    *,
    id_: str = "",
    project: str = "",
    room: str = "",
    violations: tuple[Violation, ...] = (),
    retry_after: timedelta | None = None,
) -> str:
    """Return an ERROR: what was refused, or will not come any more, and why."""
    said: dict[str, object] = {"reason": reason, "message": message}
    if violations:
        said["violations"] = [
            {"field": each.field, "description": each.description} for each in violations
        ]
    if retry_after is not None:
        said["retry_after"] = max(1, ceil(retry_after.total_seconds()))
    return encode("ERROR", id=id_, project=project, room=room, data=said)


def stamped(envelope: bytes, *, sequence: int, epoch: str, time: datetime) -> str:
    """Return a published envelope with its place and time; a sequence of zero: it has no place.

    *time* is aware, in UTC.
    """
    said: dict[str, object] = {"sequence": sequence, "epoch": epoch} if sequence else {}
    said["time"] = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return (envelope[:-1] + b"," + encode_fields(said)[1:]).decode()


def _decoded(decoder: "msgspec.json.Decoder[Any]", content: str | bytes) -> Any:  # noqa: ANN401 - the type is the decoder's
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        message = str(error)
        found = _FIELD.search(message)
        field = (found[1] or found[2] or "") if found else ""
        raise EnvelopeInvalid(message, reason="FIELD_INVALID", field=field) from error
    except (ValueError, RecursionError) as error:
        message = str(error)
        place = _BYTE.search(message)
        where = f" at byte {place[1]}" if place else ""
        raise EnvelopeInvalid(
            f"the message is not JSON{where}: {message}", reason="MESSAGE_MALFORMED"
        ) from error
