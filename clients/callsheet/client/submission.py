"""What a client says when it submits a task, and the request it becomes."""

from __future__ import annotations

import uuid
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict

from google.protobuf.duration_pb2 import Duration

from callsheet.client.task_types import to_spec
from callsheet.v1 import task_pb2, task_service_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from google.protobuf.message import Message


#: By what of an equal submission this one may be answered.
ReuseWord: TypeAlias = Literal["none", "result", "result-or-join"]

#: The contract's words for it.
REUSE_MODES: Final[Mapping[ReuseWord, task_service_pb2.ReuseMode.ValueType]] = MappingProxyType(
    {
        "none": task_service_pb2.REUSE_MODE_UNSPECIFIED,
        "result": task_service_pb2.REUSE_MODE_RESULT,
        "result-or-join": task_service_pb2.REUSE_MODE_RESULT_OR_JOIN,
    }
)


#: What webhooks may tell besides the end of a task.
EventWord: TypeAlias = Literal["queued", "started", "progress", "retrying", "cancelled"]

#: The contract's words for it.
CALLBACK_EVENTS: Final[Mapping[EventWord, task_pb2.CallbackEvent.ValueType]] = MappingProxyType(
    {
        "queued": task_pb2.CALLBACK_EVENT_QUEUED,
        "started": task_pb2.CALLBACK_EVENT_STARTED,
        "progress": task_pb2.CALLBACK_EVENT_PROGRESS,
        "retrying": task_pb2.CALLBACK_EVENT_RETRYING,
        "cancelled": task_pb2.CALLBACK_EVENT_CANCELLED,
    }
)


class SubmitOptions(TypedDict, total=False):
    """All that may be said of a task besides its input; what is left out has its default."""

    #: The project the task belongs to. Left out: the client's.
    project: str
    #: The urgency, 0 to 9; 9 is the most urgent. Left out: the task type's.
    priority: int
    #: How long to wait before the first attempt. Left out: not at all.
    delay: timedelta
    #: How long the task may wait before it fails as EXPIRED. Left out: for ever.
    expire_after: timedelta
    #: Where webhooks go. Left out: nowhere.
    callback_url: str
    #: What webhooks tell besides the end of the task. Left out: only that.
    callback_events: Sequence[EventWord]
    #: The client's own words, echoed in webhooks.
    metadata: Mapping[str, str]
    #: The id that makes this submission one and the same when it is repeated. Left out: a new one.
    request_id: str
    #: By what of an equal submission this one may be answered: its output, or, while it has not
    #: ended, the task itself. Left out: by nothing.
    reuse: ReuseWord
    #: How long ago that output may have been made. Left out: as long as the task type says.
    reuse_max_age: timedelta


class Submission:
    """One input message with its options, for ``submit_many``."""

    def __init__(
        self,
        input: Message,
        *,
        options: SubmitOptions | None = None,
    ) -> None:
        self.input = input
        self.options: SubmitOptions = options if options is not None else {}


def new_request_id() -> str:
    """Return a request_id that nobody used before."""
    return str(uuid.uuid4())


def to_request(
    input: Message, *, options: SubmitOptions, project: str
) -> task_service_pb2.SubmitTaskRequest:
    """Return the request of one submission, always with a request_id, so that it may be repeated.

    Raises TypeError when the message is the input of no task type.
    """
    request = task_service_pb2.SubmitTaskRequest(
        project=options.get("project") or project,
        request_id=options.get("request_id") or new_request_id(),
        spec=to_spec(input),
        priority=options.get("priority"),
        metadata=options.get("metadata"),
    )
    if "delay" in options:
        request.delay.CopyFrom(to_duration(options["delay"]))
    if "expire_after" in options:
        request.expire_after.CopyFrom(to_duration(options["expire_after"]))
    if "callback_url" in options:
        request.callback.CopyFrom(task_pb2.Callback(url=options["callback_url"]))
    if "callback_events" in options:
        request.callback.events.extend(CALLBACK_EVENTS[e] for e in options["callback_events"])
    if "reuse" in options:
        request.reuse.mode = REUSE_MODES[options["reuse"]]
    if "reuse_max_age" in options:
        request.reuse.max_age.CopyFrom(to_duration(options["reuse_max_age"]))
    return request


def to_duration(span: timedelta) -> Duration:
    """Return a timedelta as the contract's Duration."""
    duration = Duration()
    duration.FromTimedelta(span)
    return duration
