"""`/api/v1/tasks/{id}/events`: what happens to a task, as Server-Sent Events."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client.errors import CallError, Violation, WaitTimeout
from callsheet.client.states import is_final, is_signal
from callsheet.gateway.bodies import query_fields
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.limits import StreamLimit
from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import Refused, encoded, invalid, problem, refused_of
from callsheet.gateway.renewal import stream_time
from callsheet.gateway.streams import HEARTBEAT, CountedStream, beating
from callsheet.gateway.task_views import event_view
from callsheet.v1 import task_event_pb2, task_pb2

#: One stream lasts as long; its reader then asks anew for what follows.
LONGEST: Final = timedelta(hours=1)

_MEDIA_TYPE: Final = "text/event-stream"
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: How soon a browser asks again after a broken stream, in milliseconds.
_RECONNECT: Final = b"retry: 1000\n\n"
_STILL_THERE: Final = b": still there\n\n"
#: The id of an event: the ledger's epoch, and the sequence in it.
_EVENT_ID: Final = re.compile(r"(?:(?P<epoch>[!-9;-~]{1,64}):)?(?P<sequence>[0-9]{1,19})")


class Events:
    """The route of a task's events."""

    def __init__(
        self,
        plane: Plane,
        *,
        streams: StreamLimit,
        stopping: asyncio.Event,
        heartbeat: timedelta = HEARTBEAT,
    ) -> None:
        self._plane = plane
        self._streams = streams
        self._stopping = stopping
        self._heartbeat = heartbeat

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [Route("/api/v1/tasks/{task_id}/events", self.watch, methods=["GET"])]

    async def watch(self, request: Request) -> Response:
        """Stream every fact after the last one seen, and signals; 204 when there is no more."""
        credential = credential_of(request)
        principal = await self._plane.principal(credential)
        client = self._plane.client(credential)
        after, epoch = _last_seen(request)
        task = await client.get(request.path_params["task_id"])
        _check_place(task, after=after, epoch=epoch)
        if is_final(task) and task.sequence <= after:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return CountedStream(
            self._lines(
                credential,
                task.id,
                after=after,
                epoch=epoch or task.epoch,
                longest=stream_time(principal, longest=LONGEST),
            ),
            limit=self._streams,
            caller=credential,
            headers=_HEADERS,
            media_type=_MEDIA_TYPE,
        )

    async def _lines(
        self, credential: str, task_id: str, *, after: int, epoch: str, longest: timedelta
    ) -> AsyncGenerator[bytes, None]:
        events = self._plane.streamer(credential).watch(
            task_id, after_sequence=after, epoch=epoch, timeout=longest
        )
        beats = beating(events, stopping=self._stopping, heartbeat=self._heartbeat)
        yield _RECONNECT
        try:
            async with aclosing(beats):
                async for event in beats:
                    yield _STILL_THERE if event is None else _encoded(event)
        except WaitTimeout:
            return  # the reader comes again, with the id of the last event
        except CallError as error:
            yield _lines_of("problem", problem(refused_of(error)))


def event_id(epoch: str, sequence: int) -> str:
    """Return the id of a fact: what Last-Event-ID says to go on behind it."""
    return f"{epoch}:{sequence}"


def _encoded(event: task_event_pb2.TaskEvent) -> bytes:
    name = event.WhichOneof("event") or "unknown"
    lines = _lines_of(name, event_view(event))
    if is_signal(event):
        return lines  # without an id: who reconnects goes on behind the last fact
    return f"id: {event_id(event.epoch, event.sequence)}\n".encode() + lines


def _lines_of(name: str, fields: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: ".encode() + encoded(fields) + b"\n\n"


def _last_seen(request: Request) -> tuple[int, str]:
    """Return sequence and epoch of the last fact that the reader saw; zero and '' at first."""
    query = query_fields(request)
    asked = query.text("after")
    query.done()
    header = request.headers.get("last-event-id", "")
    found = _EVENT_ID.fullmatch(header or asked or "0")
    if found is None:
        field = "Last-Event-ID" if header else "after"
        raise invalid([Violation(field, "must be a sequence, or <epoch>:<sequence>")])
    return int(found["sequence"]), found["epoch"] or ""


def _check_place(task: task_pb2.Task, *, after: int, epoch: str) -> None:
    """Refuse a place that is not in the task's log, as the stream itself would, but in time."""
    if epoch and epoch != task.epoch:
        raise Refused(
            HTTPStatus.GONE,
            "EPOCH_CHANGED",
            "the ledger was restored since; forget what you know of the task and read it anew",
        )
    if after > task.sequence:
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "SEQUENCE_AHEAD",
            f"the task has no sequence {after} yet; its last is {task.sequence}",
            violations=[Violation("after", f"the last sequence is {task.sequence}")],
        )
