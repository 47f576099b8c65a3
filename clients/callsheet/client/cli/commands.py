"""The commands: each asks the plane one thing and prints the answer."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from callsheet.client.cli.connecting import target
from callsheet.client.cli.exits import UsageError
from callsheet.client.cli.fields import read_input
from callsheet.client.cli.live import LiveView
from callsheet.client.cli.render import (
    delivery_table,
    event_line,
    outcome_text,
    performance_table,
    principal_text,
    queue_table,
    result_text,
    snapshot_line,
    task_table,
    task_text,
    task_type_json,
    task_type_table,
    to_json,
    worker_table,
)
from callsheet.client.errors import TaskCancelled, TaskFailed
from callsheet.client.operations import DeliveryOptions
from callsheet.client.submission import SubmitOptions
from callsheet.client.task_types import task_types
from callsheet.v1 import task_pb2

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from google.protobuf.message import Message

    from callsheet.client.aio import AsyncTaskClient
    from callsheet.v1 import task_event_pb2

Item = TypeVar("Item")

#: What a command's name stands for.
Command: TypeAlias = "Callable[[Session], Awaitable[None]]"


class Session:
    """One run of the command: its options, and its client once it is asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        #: The task that is being followed, and goes on if this command is interrupted.
        self.following = ""
        self._client: AsyncTaskClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()

    @property
    def client(self) -> AsyncTaskClient:
        """The client of the plane that the options name. Raises UsageError."""
        if self._client is None:
            self._client = target(self.options).client()
        return self._client


async def submit(session: Session) -> None:
    """Submit a task; print its id, or with --watch and --wait its result."""
    options = session.options
    given = vars(options)
    input_class = task_types()[options.task_type].input_class
    message = read_input(input_class, options=given, json_input=options.json_input)
    handle = await session.client.submit(message, **_submit_options(options))
    if told := outcome_text(handle.outcome, handle.task):
        print(told, file=sys.stderr)
    if not (options.watch or options.wait):
        print(to_json(handle.task) if options.json else handle.id)
        return
    print(f"task {handle.id}", file=sys.stderr)
    follow = _watch_live if options.watch else _wait
    _finish(await follow(session, handle.id), json=options.json)


async def get(session: Session) -> None:
    """Print a task as it is now."""
    task = await session.client.get(session.options.task_id)
    print(to_json(task) if session.options.json else task_text(task))


async def list_tasks(session: Session) -> None:
    """Print tasks, newest first, as their pages arrive."""
    options = session.options
    if options.limit < 0:
        raise UsageError("--limit must not be negative")
    tasks = session.client.list(state=_state(options.state), task_type=options.task_type)
    async with aclosing(tasks):
        some = _first(tasks, options.limit) if options.limit else tasks
        async for line in _json_lines(some) if options.json else task_table(some):
            print(line)


async def watch(session: Session) -> None:
    """Follow a task to its end: live for people, one event a line with --json."""
    options = session.options
    if bool(options.task_id) == options.all:
        raise UsageError("name a task, or say --all")
    if options.all:
        await _watch_all(session)
        return
    if options.after_sequence < 0:
        raise UsageError("--after-sequence must not be negative")
    follow = _watch_json if options.json else _watch_live
    task = await follow(session, options.task_id)
    if options.json:
        _raise_unless_succeeded(task)
    else:
        _finish(task, json=False)


async def wait(session: Session) -> None:
    """Wait until a task is final and print its result."""
    _finish(await _wait(session, session.options.task_id), json=session.options.json)


async def cancel(session: Session) -> None:
    """Ask a task to stop."""
    options = session.options
    task = await session.client.cancel(options.task_id, reason=options.reason)
    print(to_json(task) if options.json else task_text(task))


async def retry(session: Session) -> None:
    """Submit a task once more and print the new one's id."""
    options = session.options
    handle = await session.client.retry(options.task_id, request_id=options.request_id)
    print(to_json(handle.task) if options.json else handle.id)


async def queues(session: Session) -> None:
    """Print the queues, or the one that is paused or resumed."""
    client, options = session.client, session.options
    if options.pause:
        found = [await client.pause_queue(options.pause)]
    elif options.resume:
        found = [await client.resume_queue(options.resume)]
    else:
        found = await client.queues()
    _print_all(found, queue_table(found), json=session.options.json)


async def workers(session: Session) -> None:
    """Print the live workers, or the one of which something is wished."""
    client, options = session.client, session.options
    if options.pause:
        found = [await client.pause_worker(options.pause)]
    elif options.resume:
        found = [await client.resume_worker(options.resume)]
    elif options.drain:
        found = [await client.drain_worker(options.drain)]
    else:
        found = await client.workers()
    _print_all(found, worker_table(found), json=options.json)


async def performance(session: Session) -> None:
    """Print how tasks fared of late."""
    found = await session.client.performance(window=session.options.window)
    for line in [to_json(found)] if session.options.json else performance_table(found):
        print(line)


async def whoami(session: Session) -> None:
    """Print whom the key stands for."""
    found = await session.client.principal()
    print(to_json(found) if session.options.json else principal_text(found))


async def list_deliveries(session: Session) -> None:
    """Print webhook deliveries, of a task or of a project."""
    options = session.options
    if options.limit < 0:
        raise UsageError("--limit must not be negative")
    wanted = _delivery_options(options)
    deliveries = session.client.list_deliveries(task_id=options.task_id, **wanted)
    async with aclosing(deliveries):
        some = _first(deliveries, options.limit) if options.limit else deliveries
        found = [each async for each in some]
    _print_all(found, delivery_table(found), json=options.json)


async def replay_deliveries(session: Session) -> None:
    """Have webhook deliveries made once more; print how many."""
    options = session.options
    wanted = _delivery_options(options)
    if options.limit is not None and options.limit < 1:
        raise UsageError("--limit must be positive")
    if not (options.id or options.task or wanted):
        raise UsageError("say which: --id, --task, or at least --state dead")
    if (options.id or options.task) and wanted:
        raise UsageError("--id and --task stand alone")
    if options.from_sequence and not options.task:
        raise UsageError("--from-sequence belongs to --task")
    replayed = await session.client.replay_deliveries(
        delivery_id=options.id,
        task_id=options.task,
        from_sequence=options.from_sequence,
        limit=options.limit,
        **wanted,
    )
    print(json.dumps({"replayed": replayed}) if options.json else f"{replayed} replayed")


async def types(session: Session) -> None:
    """Print the task types of the contract."""
    known = task_types().values()
    for line in map(task_type_json, known) if session.options.json else task_type_table(known):
        print(line)


async def _watch_all(session: Session) -> None:
    """Print what happens to all tasks of the project until the timeout, or Ctrl-C."""
    options = session.options
    responses = session.client.watch_tasks(timeout=options.timeout)
    async with aclosing(responses):
        async for response in responses:
            if options.json:
                print(to_json(response), flush=True)
            elif response.HasField("snapshot"):
                print(snapshot_line(response.snapshot), flush=True)
            elif response.HasField("event"):
                print(event_line(response.event), flush=True)


async def _watch_live(session: Session, task_id: str) -> task_pb2.Task:
    with LiveView() as view:
        async for event in _events(session, task_id):
            view.show(event)
    return await session.client.get(task_id)


async def _watch_json(session: Session, task_id: str) -> task_pb2.Task:
    async for event in _events(session, task_id):
        print(to_json(event), flush=True)
    return await session.client.get(task_id)


async def _events(session: Session, task_id: str) -> AsyncIterator[task_event_pb2.TaskEvent]:
    options = session.options
    session.following = task_id
    events = session.client.watch(
        task_id,
        after_sequence=getattr(options, "after_sequence", 0),
        timeout=options.timeout,
    )
    async with aclosing(events):
        async for event in events:
            yield event
    session.following = ""


async def _wait(session: Session, task_id: str) -> task_pb2.Task:
    session.following = task_id
    task = await session.client.wait(task_id, timeout=session.options.timeout)
    session.following = ""
    return task


def _finish(task: task_pb2.Task, *, json: bool) -> None:
    """Print what became of a final task. Raises TaskFailed, TaskCancelled."""
    if json:
        print(to_json(task))
    _raise_unless_succeeded(task)
    if not json:
        print(result_text(task))


def _raise_unless_succeeded(task: task_pb2.Task) -> None:
    if task.state == task_pb2.TASK_STATE_FAILED:
        raise TaskFailed(task)
    if task.state == task_pb2.TASK_STATE_CANCELLED:
        raise TaskCancelled(task)


def _print_all(found: Sequence[Message], table: Iterable[str], *, json: bool) -> None:
    for line in map(to_json, found) if json else table:
        print(line)


async def _first(found: AsyncIterator[Item], limit: int) -> AsyncIterator[Item]:
    count = 0
    async for item in found:
        yield item
        count += 1
        if count == limit:
            return


async def _json_lines(tasks: AsyncIterator[task_pb2.Task]) -> AsyncIterator[str]:
    async for task in tasks:
        yield to_json(task)


def _state(word: str | None) -> task_pb2.TaskState.ValueType:
    if word is None:
        return task_pb2.TASK_STATE_UNSPECIFIED
    return task_pb2.TaskState.Value(f"TASK_STATE_{word.upper()}")


def _submit_options(options: argparse.Namespace) -> SubmitOptions:
    given = SubmitOptions(metadata=_metadata(options.metadata))
    if options.priority is not None:
        given["priority"] = options.priority
    if options.delay is not None:
        given["delay"] = options.delay
    if options.expire_after is not None:
        given["expire_after"] = options.expire_after
    if options.callback_url is not None:
        given["callback_url"] = options.callback_url
    if options.callback_event:
        given["callback_events"] = options.callback_event
    if options.request_id is not None:
        given["request_id"] = options.request_id
    if options.reuse is not None:
        given["reuse"] = options.reuse
    if options.reuse_max_age is not None:
        given["reuse_max_age"] = options.reuse_max_age
    return given


def _delivery_options(options: argparse.Namespace) -> DeliveryOptions:
    given = DeliveryOptions()
    if options.state is not None:
        given["state"] = options.state
    if options.url is not None:
        given["url"] = options.url
    if options.after is not None:
        given["created_after"] = options.after
    if options.before is not None:
        given["created_before"] = options.before
    return given


def _metadata(entries: Sequence[str]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for entry in entries:
        key, separator, value = entry.partition("=")
        if not separator or not key:
            raise UsageError(f"--metadata is key=value, not {entry!r}")
        metadata[key] = value
    return metadata
