"""The one table from refusals to gRPC: status code, reason, and details that machines read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from callsheet.control import refusals
from callsheet.ledger import errors
from callsheet.ledger.errors import LedgerError
from callsheet.ledger.model import TaskState
from callsheet.v1.task_service_pb2 import FieldViolation, Refusal

DOMAIN: Final = "callsheet.dev"
#: The trailing metadata that carries a serialised google.rpc.Status.
DETAILS_KEY: Final = "grpc-status-details-bin"

#: Bounds of what an error tells: it travels in trailing metadata, and clients take 8 KiB of that.
_MOST_BYTES: Final = 3072
_MOST_VIOLATIONS: Final = 32
_LONGEST_PATH: Final = 128
_LONGEST_DESCRIPTION: Final = 240
_LONGEST_VALUE: Final = 256
_LONGEST_MESSAGE: Final = 320

#: What a call may be refused with.
Refused = LedgerError | refusals.EdgeRefusal


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one kind of refusal is to a client.

    *instead* is said in place of a sentence, and its values, that are not for clients.
    """

    code: StatusCode
    reason: str
    instead: str = ""


_C = StatusCode

#: Each kind of refusal, the only place that knows what it is in gRPC.
MEANINGS: Final[Mapping[type[Refused], Meaning]] = MappingProxyType(
    {
        errors.TaskNotFound: Meaning(_C.NOT_FOUND, "TASK_NOT_FOUND"),
        errors.DeliveryNotFound: Meaning(_C.NOT_FOUND, "DELIVERY_NOT_FOUND"),
        errors.ProjectNotFound: Meaning(_C.NOT_FOUND, "PROJECT_NOT_FOUND"),
        errors.RoleMissing: Meaning(_C.PERMISSION_DENIED, "ROLE_MISSING"),
        errors.KeyInvalid: Meaning(_C.UNAUTHENTICATED, "KEY_INVALID"),
        errors.KeyNeeded: Meaning(_C.PERMISSION_DENIED, "KEY_NEEDED"),
        errors.TicketNeeded: Meaning(_C.PERMISSION_DENIED, "TICKET_NEEDED"),
        errors.TicketExpired: Meaning(_C.UNAUTHENTICATED, "TICKET_EXPIRED"),
        errors.TicketRevoked: Meaning(_C.UNAUTHENTICATED, "TICKET_REVOKED"),
        errors.TicketNotRenewable: Meaning(_C.FAILED_PRECONDITION, "TICKET_NOT_RENEWABLE"),
        errors.QueueNotFound: Meaning(_C.NOT_FOUND, "QUEUE_NOT_FOUND"),
        errors.WorkerNotFound: Meaning(_C.NOT_FOUND, "WORKER_NOT_FOUND"),
        errors.InvalidField: Meaning(_C.INVALID_ARGUMENT, "FIELD_INVALID"),
        errors.ModelUnknown: Meaning(_C.INVALID_ARGUMENT, "MODEL_NOT_FOUND"),
        errors.MemoryInsufficient: Meaning(_C.FAILED_PRECONDITION, "MEMORY_INSUFFICIENT"),
        errors.RequestIdReused: Meaning(_C.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
        errors.IllegalTransition: Meaning(_C.FAILED_PRECONDITION, "ILLEGAL_TRANSITION"),
        errors.LeaseLost: Meaning(_C.ABORTED, "LEASE_LOST"),
        errors.PageTokenInvalid: Meaning(_C.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
        errors.SequenceAhead: Meaning(_C.OUT_OF_RANGE, "SEQUENCE_AHEAD"),
        errors.EpochChanged: Meaning(_C.DATA_LOSS, "EPOCH_CHANGED"),
        errors.CursorLost: Meaning(_C.DATA_LOSS, "CURSOR_LOST"),
        errors.LedgerFull: Meaning(_C.RESOURCE_EXHAUSTED, "LEDGER_FULL"),
        errors.LedgerBusy: Meaning(_C.RESOURCE_EXHAUSTED, "LEDGER_BUSY"),
        errors.LedgerUnavailable: Meaning(
            _C.UNAVAILABLE, "LEDGER_UNAVAILABLE", instead="the ledger does not answer"
        ),
        errors.ConflictUnresolved: Meaning(_C.ABORTED, "CONFLICT_UNRESOLVED"),
        errors.UnknownVersion: Meaning(_C.INTERNAL, "VERSION_UNKNOWN"),
        refusals.MessageMalformed: Meaning(_C.INVALID_ARGUMENT, "MESSAGE_MALFORMED"),
        refusals.DeadlinePassed: Meaning(_C.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        refusals.ServiceUnknown: Meaning(_C.NOT_FOUND, "SERVICE_NOT_FOUND"),
        refusals.ShuttingDown: Meaning(_C.UNAVAILABLE, "SHUTTING_DOWN"),
        refusals.WatchersFull: Meaning(_C.RESOURCE_EXHAUSTED, "WATCHERS_FULL"),
        refusals.ProjectWatchersFull: Meaning(_C.RESOURCE_EXHAUSTED, "PROJECT_WATCHERS_FULL"),
        refusals.Defect: Meaning(_C.INTERNAL, "INTERNAL"),
    }
)
_KEY_MISSING: Final = Meaning(_C.UNAUTHENTICATED, "KEY_MISSING")


def meaning(refusal: Refused) -> Meaning:
    """Return what the refusal is to a client."""
    if isinstance(refusal, errors.KeyInvalid) and refusal.missing:
        return _KEY_MISSING
    return MEANINGS[type(refusal)]


def sentence(refusal: Refused) -> str:
    """Return the refusal's sentence for people, without what is not theirs to see."""
    violations = _violations(refusal)
    if len(violations) > 1:
        more = len(violations) - 1
        first = f"{violations[0].field}: {violations[0].description}"
        return _short(f"{first} (and {more} more)", _LONGEST_MESSAGE)
    return _short(meaning(refusal).instead or str(refusal), _LONGEST_MESSAGE)


def status(refusal: Refused) -> Status:
    """Return the refusal as a google.rpc.Status with its details."""
    found = Status(code=_number(meaning(refusal).code), message=sentence(refusal))
    for detail in _details(refusal):
        found.details.add().Pack(detail)
    return found


def trailing_metadata(refusal: Refused) -> tuple[tuple[str, bytes], ...]:
    """Return the metadata in which gRPC carries the details of an error."""
    return ((DETAILS_KEY, status(refusal).SerializeToString()),)


def to_refusal(refusal: Refused) -> Refusal:
    """Return the refusal of one request of a batch: what a call of its own would fail with."""
    found = Refusal(
        code=_number(meaning(refusal).code),
        message=sentence(refusal),
        reason=meaning(refusal).reason,
        violations=_violations(refusal),
    )
    delay = _retry_delay(refusal)
    if delay is not None:
        found.retry_delay.FromTimedelta(delay)
    return found


def _details(refusal: Refused) -> Iterator[Message]:
    yield ErrorInfo(reason=meaning(refusal).reason, domain=DOMAIN, metadata=_values(refusal))
    if violations := _violations(refusal):
        yield _bad_request(violations, reason=meaning(refusal).reason)
    delay = _retry_delay(refusal)
    if delay is not None:
        wait = Duration()
        wait.FromTimedelta(delay)
        yield RetryInfo(retry_delay=wait)


def _bad_request(violations: Sequence[FieldViolation], *, reason: str) -> BadRequest:
    request = BadRequest()
    for violation in violations:
        if request.ByteSize() > _MOST_BYTES:
            break
        request.field_violations.add(
            field=violation.field, description=violation.description, reason=reason
        )
    return request


def _violations(refusal: Refused) -> Sequence[FieldViolation]:
    match refusal:
        case errors.InvalidField(violations=violations):
            found = violations
        case errors.ModelUnknown(field=field, problem=problem):
            found = ((field, problem),)
        case errors.MemoryInsufficient(fields=fields, problem=problem):
            found = tuple((field, problem) for field in fields)
        case errors.PageTokenInvalid():
            found = (("page_token", str(refusal)),)
        case errors.SequenceAhead():
            found = (("after_sequence", str(refusal)),)
        case _:
            found = ()
    return [
        FieldViolation(
            field=_short(path, _LONGEST_PATH), description=_short(text, _LONGEST_DESCRIPTION)
        )
        for path, text in found[:_MOST_VIOLATIONS]
    ]


def _values(refusal: Refused) -> dict[str, str]:
    """Return every value that the sentence is made of, so that nobody has to parse it."""
    if meaning(refusal).instead:
        return {}
    if isinstance(refusal, errors.InvalidField):
        return {"field": _short(refusal.violations[0][0], _LONGEST_PATH)}
    return {name: _short(_text(value), _LONGEST_VALUE) for name, value in vars(refusal).items()}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case TaskState():
            return value.value
        case tuple():
            return ",".join(str(part) for part in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # a tuple of whatever the error holds, made text
        case _:
            return str(value)


def _retry_delay(refusal: Refused) -> timedelta | None:
    delay = getattr(refusal, "retry_delay", None)
    return delay if isinstance(delay, timedelta) else None


def _number(code: StatusCode) -> int:
    return code.value[0]


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
