"""Submitting a task over REST, whatever route it came by, and what was refused in its own words."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message
from starlette.requests import Request

from callsheet.client import AsyncTaskClient, AsyncTaskHandle
from callsheet.client.errors import (
    CallError,
    FailedPrecondition,
    InvalidArgument,
    Violation,
)
from callsheet.client.submission import CALLBACK_EVENTS, REUSE_MODES, SubmitOptions
from callsheet.client.task_types import TaskType
from callsheet.gateway.bodies import Fields
from callsheet.gateway.problems import Refused, refused_of
from callsheet.gateway.task_inputs import to_message
from callsheet.gateway.task_words import task_type_named
from callsheet.gateway.upload_quota import UploadQuota
from callsheet.runtime.trace import TRACEPARENT, parse_traceparent
from callsheet.v1.task_service_pb2 import (
    SubmitTaskRequest,
    SubmitTaskResponse,
    SubmitTasksRequest,
    SubmitTasksResponse,
)

#: The field of a request that a field of the contract is.
_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("project", "project_id"),
    ("callback.url", "callback_url"),
    ("callback.events", "callback_events"),
    ("delay", "delay_seconds"),
    ("expire_after", "expire_after_seconds"),
    ("reuse.mode", "reuse"),
    ("reuse.max_age", "reuse_max_age_seconds"),
)
_END: Final = r"(?=$|[.\[])"


@dataclass(frozen=True)
class Wish:
    """A task to be made."""

    task_type: TaskType
    task_data: Mapping[str, object]
    options: SubmitOptions = field(default_factory=SubmitOptions)
    #: Where its input stands in the request; '' when the body is the input.
    path: str = "task_data"


def wish_of(request: Request, body: Mapping[str, object]) -> Wish:
    """Return the task that the body of `POST /api/v1/tasks/submit` asks for.

    Raises Refused: 400 with the fields at fault, 501 when this build cannot do it.
    """
    fields = Fields(body)
    options = SubmitOptions(
        project=fields.text("project_id"),
        metadata=fields.texts("metadata"),
        request_id=fields.text("request_id") or idempotency_key(request),
    )
    name = fields.text("task_type", required=True)
    task_data = fields.nested("task_data")
    if url := fields.text("callback_url"):
        options["callback_url"] = url
    if told := fields.words("callback_events", CALLBACK_EVENTS):
        options["callback_events"] = told
    if (priority := fields.number("priority", least=0, most=9)) is not None:
        options["priority"] = priority
    if (delay := fields.seconds("delay_seconds")) is not None:
        options["delay"] = delay
    if (expire_after := fields.seconds("expire_after_seconds")) is not None:
        options["expire_after"] = expire_after
    if (reuse := fields.word("reuse", REUSE_MODES)) is not None:
        options["reuse"] = reuse
    if (age := fields.seconds("reuse_max_age_seconds")) is not None:
        options["reuse_max_age"] = age
    fields.done()
    return Wish(task_type_named(name), task_data, options)


async def submit(
    client: AsyncTaskClient, request: Request, wish: Wish, *, quota: UploadQuota
) -> AsyncTaskHandle[Message]:
    """Submit the task for whoever asks; the uploads it refers to count no more.

    Raises Refused, in the request's own words; CallError.
    """
    message = to_message(wish.task_type.input_class, wish.task_data, path=wish.path)
    try:
        handle = await client.submit(message, trace_parent=trace_of(request), **wish.options)
    except (InvalidArgument, FailedPrecondition) as error:
        raise in_words_of(error, wish.task_type.name, root=wish.path) from None
    await quota.used(handle.task.project, message.SerializeToString())
    return handle


def accepted_specs(request: Message, response: Message) -> Iterator[tuple[str, Message]]:
    """Yield project and spec of every task that a call of the contract had accepted."""
    match request, response:
        case SubmitTaskRequest(), SubmitTaskResponse():
            yield response.task.project, request.spec
        case SubmitTasksRequest(), SubmitTasksResponse():
            for asked, found in zip(request.requests, response.results, strict=False):
                if found.HasField("task"):
                    yield found.task.project, asked.spec
        case _:
            return


def in_words_of(error: CallError, task_type: str, *, root: str) -> Refused:
    """Return the refusal with the fields of the request in place of the contract's."""
    refused = refused_of(error)
    # An input that is the whole body has its fields at the top.
    names = (*_FIELDS, (f"spec.{task_type}", root) if root else (f"spec.{task_type}.", ""))
    violations: list[Violation] = []
    detail = refused.detail
    for each in refused.violations:
        path = each.field
        for theirs, ours in names:
            path, found = re.subn(rf"^{re.escape(theirs)}{_END if ours else ''}", ours, path)
            if found:
                break
        violations.append(Violation(path, each.description))
        detail = detail.replace(each.field, path, 1) if each.field else detail
    return Refused(refused.status, refused.reason, detail, violations=violations)


def idempotency_key(request: Request) -> str:
    """Return what makes a request the same when it is repeated; or ''."""
    return request.headers.get("idempotency-key", "").strip().strip('"')


def trace_of(request: Request) -> str | None:
    """Return the trace that the request belongs to; None: it names none."""
    text = request.headers.get(TRACEPARENT)
    trace = parse_traceparent(text) if text is not None else None
    return None if trace is None else str(trace)
