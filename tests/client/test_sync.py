"""The client without asyncio does what the other one does."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, assert_type

import pytest

from callsheet.client import (
    AsyncTaskClient,
    AsyncTaskHandle,
    InvalidArgument,
    Submission,
    TaskClient,
    TaskFailed,
    TaskHandle,
    TaskNotFound,
    Unavailable,
)
from callsheet.client.testing import fail, hold, running_fake, succeed
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import task_pb2
from tests.client.conftest import QUICK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callsheet.client.testing import FakeTaskService

NOWHERE = "3a2f6c1e-0000-4000-8000-000000000000"


@pytest.fixture
def fake() -> Iterator[FakeTaskService]:
    with running_fake() as service:
        yield service


@pytest.fixture
def client(fake: FakeTaskService) -> Iterator[TaskClient]:
    with TaskClient(fake.address, key=fake.key, backoff=QUICK) as connected:
        yield connected


@pytest.mark.parametrize(
    ("plain", "other"), [(TaskClient, AsyncTaskClient), (TaskHandle, AsyncTaskHandle)]
)
def test_it_has_every_method_of_the_other_one(plain: type, other: type) -> None:
    def public(cls: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}

    # Raw stubs are of asyncio alone.
    assert public(plain) == public(other) - {"connection"}


def test_a_task_is_submitted_and_awaited(fake: FakeTaskService, client: TaskClient) -> None:
    fake.script(PingInput, succeed(PingOutput(echo="hello")))
    fake.refuse("SubmitTask", Unavailable("away"))
    handle = client.submit(PingInput(), output=PingOutput, metadata={"a": "b"})
    assert_type(handle, TaskHandle[PingOutput])
    assert handle.result().echo == "hello"
    assert handle.wait().metadata == {"a": "b"}
    assert client.handle(handle.id, output=PingOutput).result().echo == "hello"
    assert handle.get() == client.get(handle.id) == client.wait(handle.id) == handle.task
    assert repr(handle) == f"<TaskHandle {handle.id}>"


def test_many_are_submitted(client: TaskClient) -> None:
    first, second = client.submit_many([PingInput(), Submission(PingInput())])
    assert isinstance(first, TaskHandle)
    assert isinstance(second, TaskHandle)
    assert first.result() == PingOutput()
    assert {task.id for task in client.list()} == {first.id, second.id}


def test_a_watch_is_a_plain_iterator(fake: FakeTaskService, client: TaskClient) -> None:
    gate = hold()
    fake.script(PingInput, gate)
    handle = client.submit(PingInput())
    sequences: list[int] = []
    for event in handle.watch():
        sequences.append(event.sequence)
        if event.sequence == 2:
            fake.cut_streams()
            gate.release()
    assert sequences == [1, 2, 3]
    assert [event.sequence for event in client.watch(handle.id, after_sequence=2)] == [3]


def test_a_watch_may_be_left_early(fake: FakeTaskService, client: TaskClient) -> None:
    fake.script(PingInput, hold())
    events = client.submit(PingInput()).watch()
    next(events)
    events.close()
    with pytest.raises(StopIteration):
        next(events)


def test_errors_are_the_same(fake: FakeTaskService, client: TaskClient) -> None:
    fake.script(PingInput, fail())
    handle = client.submit(PingInput())
    with pytest.raises(TaskFailed):
        handle.result()
    with pytest.raises(TaskNotFound):
        client.get(NOWHERE)
    with pytest.raises(InvalidArgument):
        next(client.watch("no id"))


def test_a_task_is_cancelled_and_retried(fake: FakeTaskService, client: TaskClient) -> None:
    fake.script(PingInput, hold())
    handle = client.submit(PingInput())
    handle.cancel(reason="enough")
    assert handle.wait().state == task_pb2.TASK_STATE_CANCELLED
    assert handle.retry().task.retry_of == handle.id
    assert client.retry(handle.id, request_id="mine").task.retry_of == handle.id
    other = client.submit(PingInput())
    assert client.cancel(other.id).cancel_requested


def test_operators_see_queues_workers_and_deliveries(client: TaskClient) -> None:
    handle = client.submit(PingInput())
    assert client.queues()
    assert not client.workers()
    assert not client.deliveries(handle.id)
    assert not list(client.list_deliveries(state="dead"))
    assert client.replay_deliveries(state="dead") == 0


def test_many_threads_share_one_client(fake: FakeTaskService, client: TaskClient) -> None:
    threads = [
        threading.Thread(target=lambda: client.submit(PingInput()).result()) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(task.state == task_pb2.TASK_STATE_SUCCEEDED for task in fake.tasks) == 16


def test_a_closed_client_says_so_and_leaves_no_thread(fake: FakeTaskService) -> None:
    client = TaskClient(fake.address, key=fake.key)
    handle = client.submit(PingInput())
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        handle.wait()
    assert "callsheet-client" not in {thread.name for thread in threading.enumerate()}
