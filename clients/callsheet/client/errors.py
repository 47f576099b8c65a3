"""What can go wrong for a client: one tree of typed errors, and its translation from gRPC.

CallsheetError
├── CallError              a call was refused, or did not come through
│   ├── InvalidArgument    names each field at fault
│   ├── Unauthenticated
│   ├── PermissionDenied
│   ├── NotFound
│   │   └── TaskNotFound
│   ├── AlreadyExists
│   ├── FailedPrecondition
│   ├── OutOfRange
│   ├── ResourceExhausted
│   ├── Aborted
│   ├── DataLoss
│   ├── Unavailable
│   ├── DeadlineExceeded
│   ├── CallCancelled
│   ├── Unimplemented
│   ├── Internal
│   └── Unknown
├── TaskFailed             the task ended without an output
├── TaskCancelled          the task was stopped
└── WaitTimeout            the task was not final in time
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from google.protobuf import message as protobuf_message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from callsheet.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from grpc.aio import AioRpcError

    from callsheet.v1 import task_service_pb2

#: The trailing metadata that carries a serialised google.rpc.Status.
DETAILS_KEY: Final = "grpc-status-details-bin"

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class CallsheetError(Exception):
    """The root of everything this package raises on purpose."""


@dataclass(frozen=True)
class Violation:
    """One field that broke a rule of the contract."""

    #: The path of the field, such as ``spec.generate_image.width``.
    field: str
    #: What is wrong with it.
    description: str


class CallError(CallsheetError):
    """A call was refused, or its answer did not come through."""

    #: The canonical status code of the class.
    code: ClassVar[StatusCode]

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] = _NOTHING,
        retry_delay: timedelta | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        #: One sentence for people.
        self.message = message
        #: The reason of the google.rpc.ErrorInfo, such as TASK_NOT_FOUND. Empty: none was given.
        self.reason = reason
        #: The metadata of the google.rpc.ErrorInfo.
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata))
        #: How long the server asks to wait before another try. None: it did not say.
        self.retry_delay = retry_delay
        #: The fields at fault: of an InvalidArgument, or what asks for more memory than there is.
        self.violations = tuple(violations)


class InvalidArgument(CallError):
    """The request breaks a rule of the contract; ``violations`` name the fields."""

    code = StatusCode.INVALID_ARGUMENT


class Unauthenticated(CallError):
    """The API key is missing, unknown or revoked."""

    code = StatusCode.UNAUTHENTICATED


class PermissionDenied(CallError):
    """The API key has not the role that the call needs."""

    code = StatusCode.PERMISSION_DENIED


class NotFound(CallError):
    """The named thing is not there, or not in a project of the key."""

    code = StatusCode.NOT_FOUND


class TaskNotFound(NotFound):
    """There is no task of this id in a project of the key."""


class AlreadyExists(CallError):
    """The request_id was used before, for another submission."""

    code = StatusCode.ALREADY_EXISTS


class FailedPrecondition(CallError):
    """The task's state does not allow the command, or no worker has the memory for a submission."""

    code = StatusCode.FAILED_PRECONDITION


class OutOfRange(CallError):
    """The task has no such sequence yet."""

    code = StatusCode.OUT_OF_RANGE


class ResourceExhausted(CallError):
    """The ledger is nearly full, or a message is over its limit."""

    code = StatusCode.RESOURCE_EXHAUSTED


class Aborted(CallError):
    """Another writer was first."""

    code = StatusCode.ABORTED


class DataLoss(CallError):
    """What the reader remembers is no longer true: the epoch changed, or a fact is missing."""

    code = StatusCode.DATA_LOSS


class Unavailable(CallError):
    """The plane cannot be reached, or its ledger is away."""

    code = StatusCode.UNAVAILABLE


class DeadlineExceeded(CallError):
    """The call's deadline passed before its answer came; it may have taken effect."""

    code = StatusCode.DEADLINE_EXCEEDED


class CallCancelled(CallError):
    """The server gave the call up; it may have taken effect."""

    code = StatusCode.CANCELLED


class Unimplemented(CallError):
    """The other side is too old, or too new, for what was asked."""

    code = StatusCode.UNIMPLEMENTED


class Internal(CallError):
    """A defect of the server."""

    code = StatusCode.INTERNAL


class Unknown(CallError):
    """The call failed, and nobody said why."""

    code = StatusCode.UNKNOWN


class TaskFailed(CallsheetError):
    """The task ended without an output; ``failure`` says why."""

    def __init__(self, task: task_pb2.Task) -> None:
        self.task = task
        self.failure = task.failure
        self.reason = failure_reason(task.failure)
        super().__init__(f"task {task.id} failed: {self.reason}: {task.failure.message}")


class TaskCancelled(CallsheetError):
    """The task was stopped on request."""

    def __init__(self, task: task_pb2.Task) -> None:
        self.task = task
        self.reason = task.cancel_reason
        because = f": {task.cancel_reason}" if task.cancel_reason else ""
        super().__init__(f"task {task.id} was cancelled{because}")


class WaitTimeout(CallsheetError):
    """The task was not final when the time to wait had passed; it goes on."""

    def __init__(self, task_id: str, *, timeout: timedelta, task: task_pb2.Task | None) -> None:
        self.task_id = task_id
        self.timeout = timeout
        #: The task as it was last seen. None: it was not.
        self.task = task
        seconds = timeout.total_seconds()
        super().__init__(f"task {task_id} was not final after {seconds:g} seconds")


#: The class of each status; OK is no error.
ERROR_CLASSES: Final[Mapping[StatusCode, type[CallError]]] = MappingProxyType(
    {
        error_class.code: error_class
        for error_class in (
            InvalidArgument,
            Unauthenticated,
            PermissionDenied,
            NotFound,
            AlreadyExists,
            FailedPrecondition,
            OutOfRange,
            ResourceExhausted,
            Aborted,
            DataLoss,
            Unavailable,
            DeadlineExceeded,
            CallCancelled,
            Unimplemented,
            Internal,
            Unknown,
        )
    }
)

#: Reasons that have a class of their own.
REASON_CLASSES: Final[Mapping[str, type[CallError]]] = MappingProxyType(
    {"TASK_NOT_FOUND": TaskNotFound}
)

_STATUS_OF_NUMBER: Final[Mapping[int, StatusCode]] = MappingProxyType(
    {status.value[0]: status for status in StatusCode}
)


def failure_reason(failure: task_pb2.Failure) -> str:
    """Return a failure's reason as a word, such as OUT_OF_MEMORY; a newer one as its number."""
    try:
        name = task_pb2.FailureReason.Name(failure.reason)
    except ValueError:
        return f"REASON_{failure.reason}"
    return name.removeprefix("FAILURE_REASON_")


def from_rpc_error(error: AioRpcError) -> CallError:
    """Return the typed error of a failed call, with all that its status details say."""
    details = _status_details(error.trailing_metadata() or ())
    return _build(error.code(), error.details() or error.code().name, details)


def from_refusal(refusal: task_service_pb2.Refusal) -> CallError:
    """Return the typed error of one refused item of SubmitTasks."""
    code = _STATUS_OF_NUMBER.get(refusal.code, StatusCode.UNKNOWN)
    return _class_of(code, refusal.reason)(
        refusal.message,
        reason=refusal.reason,
        retry_delay=(
            refusal.retry_delay.ToTimedelta() if refusal.HasField("retry_delay") else None
        ),
        violations=[Violation(each.field, each.description) for each in refusal.violations],
    )


def _class_of(code: StatusCode, reason: str) -> type[CallError]:
    by_reason = REASON_CLASSES.get(reason)
    if by_reason is not None and by_reason.code is code:
        return by_reason
    return ERROR_CLASSES.get(code, Unknown)


def _build(code: StatusCode, message: str, details: Status) -> CallError:
    told = ErrorInfo()
    retry = RetryInfo()
    bad_request = BadRequest()
    delay: timedelta | None = None
    for detail in details.details:
        try:
            if detail.Unpack(retry):
                delay = retry.retry_delay.ToTimedelta()
            elif not detail.Unpack(bad_request):
                detail.Unpack(told)
        except (protobuf_message.DecodeError, OverflowError):
            continue  # a detail that cannot be read leaves the status standing
    return _class_of(code, told.reason)(
        message,
        reason=told.reason,
        metadata=told.metadata,
        retry_delay=delay,
        violations=[
            Violation(each.field, each.description) for each in bad_request.field_violations
        ],
    )


def _status_details(trailing: Iterable[tuple[str, str | bytes]]) -> Status:
    status = Status()
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except protobuf_message.DecodeError:
                return Status()  # gRPC's own status still stands
    return status
