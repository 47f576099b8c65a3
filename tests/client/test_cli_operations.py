"""The command `callsheet` for operators: queues and workers held, performance, and who calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from callsheet.client import TaskClient
from callsheet.client.cli.exits import Exit
from callsheet.client.testing import FakeTaskService, running_fake
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.operations_service_pb2 import TaskMeasures, TaskTypePerformance, Worker
from tests.client.shell import NOWHERE, Shell, objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake() -> Iterator[FakeTaskService]:
    with running_fake() as service:
        yield service


@pytest.fixture
def shell(fake: FakeTaskService, tmp_path: Path) -> Shell:
    return Shell(tmp_path, CALLSHEET_GRPC_ADDRESS=fake.address, CALLSHEET_API_KEY=fake.key)


def test_a_queue_is_paused_and_resumed(shell: Shell) -> None:
    assert shell.ok("queues", "--pause", "system").splitlines()[1].endswith("ping (paused)")
    assert "(paused)" not in shell.ok("queues", "--resume", "system")
    assert shell.refused("queues", "--pause", "nobody")[0] == Exit.REFUSED.value


def test_a_worker_is_paused_drained_and_resumed(fake: FakeTaskService, shell: Shell) -> None:
    fake.workers.append(Worker(id="w-1", queues=["system"]))
    assert shell.ok("workers", "--pause", "w-1").endswith("system (paused)\n")
    assert shell.ok("workers", "--drain", "w-1").endswith("system (draining)\n")
    assert shell.ok("workers", "--resume", "w-1").endswith("system\n")


def test_performance_is_shown_by_task_type(fake: FakeTaskService, shell: Shell) -> None:
    measures = TaskMeasures(submitted=3, succeeded=2, failed=1)
    measures.mean_run.FromMilliseconds(1500)
    fake.performance.task_types.append(TaskTypePerformance(task_type="ping", total=measures))
    heading, pings = shell.ok("performance", "--window", "day").splitlines()
    assert heading.split()[:2] == ["TYPE", "SUBMITTED"]
    assert pings.split() == ["ping", "3", "2", "1", "0", "0", "1.5s", "-", "-"]
    assert objects(shell.ok("performance", "--json"))[0]["task_types"][0]["task_type"] == "ping"


def test_a_key_is_told_what_it_allows(fake: FakeTaskService, shell: Shell) -> None:
    text = shell.ok("whoami")
    assert f"projects: {fake.project}\n" in text
    assert "roles:    submit, read, operate" in text


def test_all_tasks_are_watched(fake: FakeTaskService, shell: Shell) -> None:
    with TaskClient(fake.address, key=fake.key) as client:
        task_id = client.submit(PingInput()).id
        client.wait(task_id)
    (line,) = shell.ok("watch", "--all", "--timeout", "1s").splitlines()
    assert line.endswith(f"{task_id} ping is SUCCEEDED")
    found = objects(shell.ok("watch", "--all", "--timeout", "1s", "--json"))
    assert found[0]["snapshot"]["id"] == task_id


def test_a_watch_is_of_a_task_or_of_all(shell: Shell) -> None:
    for arguments in (("watch",), ("watch", NOWHERE, "--all")):
        assert shell.refused(*arguments)[0] == Exit.USAGE.value
