"""`/api/v1/tasks`: submit, get, list, cancel and retry tasks."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client import AsyncTaskHandle
from callsheet.client.errors import Violation
from callsheet.gateway.bodies import Fields, query_fields, read_json
from callsheet.gateway.plane import TIMEOUT, Plane
from callsheet.gateway.problems import encoded, invalid
from callsheet.gateway.submissions import idempotency_key, submit, wish_of
from callsheet.gateway.task_views import Json, brief_view, task_view
from callsheet.gateway.task_words import PLATFORM, status_word
from callsheet.gateway.upload_quota import UploadQuota
from callsheet.v1 import task_pb2, task_service_pb2

_OUTCOME: Final = "SUBMIT_OUTCOME_"
_STATE: Final = "TASK_STATE_"
_MOST_PER_PAGE: Final = 200

#: The state that a status in a list's query means.
_STATES: Final[Mapping[str, task_pb2.TaskState.ValueType]] = MappingProxyType(
    {
        "queued": task_pb2.TASK_STATE_PENDING,
        "processing": task_pb2.TASK_STATE_RUNNING,
        "completed": task_pb2.TASK_STATE_SUCCEEDED,
        "failed": task_pb2.TASK_STATE_FAILED,
    }
    | {
        name.removeprefix(_STATE): number
        for name, number in task_pb2.TaskState.items()
        if number != task_pb2.TASK_STATE_UNSPECIFIED
    }
)


class Tasks:
    """The routes of tasks."""

    def __init__(self, plane: Plane, quota: UploadQuota) -> None:
        self._plane = plane
        self._quota = quota

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/api/v1/tasks/submit", self.submit, methods=["POST"]),
            Route("/api/v1/tasks", self.list, methods=["GET"]),
            Route("/api/v1/tasks/{task_id}", self.get, methods=["GET"]),
            Route("/api/v1/tasks/{task_id}/cancel", self.cancel, methods=["POST"]),
            Route("/api/v1/tasks/{task_id}/retry", self.retry, methods=["POST"]),
        ]

    async def submit(self, request: Request) -> Response:
        """Accept a task: 202, or 200 when an earlier one answers."""
        client = await self._plane.caller(request)
        wish = wish_of(request, await read_json(request))
        handle = await submit(client, request, wish, quota=self._quota)
        return _accepted(handle)

    async def get(self, request: Request) -> Response:
        """Answer a task as it is now."""
        client = await self._plane.caller(request)
        task = await client.get(request.path_params["task_id"])
        return json_response(task_view(task))

    async def list(self, request: Request) -> Response:
        """Answer a page of a project's tasks, newest first."""
        client = await self._plane.caller(request)
        query = query_fields(request)
        asked = task_service_pb2.ListTasksRequest(
            project=query.text("project_id"),
            task_type=query.text("task_type"),
            page_size=query.number("page_size", least=1, most=_MOST_PER_PAGE) or 0,
            page_token=query.text("page_token"),
        )
        status, state = query.word("status", _STATES), query.word("state", _STATES)
        query.done()
        if word := status or state:
            asked.state = _STATES[word]
        if status and state:
            raise invalid([Violation("state", "give a status or a state, not both")])
        page = await client.connection.call(
            client.connection.tasks.ListTasks, asked, timeout=TIMEOUT
        )
        return json_response(
            {
                "tasks": [brief_view(task) for task in page.tasks],
                "next_page_token": page.next_page_token or None,
            }
        )

    async def cancel(self, request: Request) -> Response:
        """Ask a task to stop, and answer it."""
        client = await self._plane.caller(request)
        fields = Fields(await read_json(request, optional=True))
        reason = fields.text("reason")
        fields.done()
        task = await client.cancel(request.path_params["task_id"], reason=reason)
        return json_response(task_view(task))

    async def retry(self, request: Request) -> Response:
        """Submit a task that failed or was cancelled once more: 202 with the new one."""
        client = await self._plane.caller(request)
        fields = Fields(await read_json(request, optional=True))
        request_id = fields.text("request_id") or idempotency_key(request)
        fields.done()
        handle = await client.retry(request.path_params["task_id"], request_id=request_id or None)
        return json_response(_submitted(handle.task), status=HTTPStatus.ACCEPTED)


def json_response(
    value: object,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """Return JSON that nobody may keep: it is of one caller, at one moment."""
    return Response(
        encoded(value),
        status.value,
        {"cache-control": "no-store", **headers},
        media_type="application/json",
    )


def _accepted(handle: AsyncTaskHandle[Message]) -> Response:
    is_new = handle.outcome == task_service_pb2.SUBMIT_OUTCOME_CREATED
    outcome = task_service_pb2.SubmitOutcome.Name(handle.outcome).removeprefix(_OUTCOME)
    return json_response(
        {**_submitted(handle.task), "outcome": outcome.lower()},
        status=HTTPStatus.ACCEPTED if is_new else HTTPStatus.OK,
        headers={"location": f"/api/v1/tasks/{handle.id}"},
    )


def _submitted(task: task_pb2.Task) -> Json:
    return {
        "task_id": task.id,
        "status": status_word(task, PLATFORM),
        "project_id": task.project,
        "task_type": task.task_type,
        "monitor_url": f"/api/v1/tasks/{task.id}",
        "events_url": f"/api/v1/tasks/{task.id}/events",
        "retry_of": task.retry_of or None,
    }
