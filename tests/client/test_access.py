"""Who calls, tickets, other keys over one channel, and what operators hold."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from callsheet.client import (
    AsyncTaskClient,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    TaskClient,
    Unauthenticated,
)
from callsheet.client.testing import running_fake
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.access_service_pb2 import ROLE_READ
from callsheet.v1.operations_service_pb2 import LogReader, TaskTypePerformance, Worker

if TYPE_CHECKING:
    from callsheet.client.testing import FakeTaskService


async def test_a_client_knows_whom_its_key_stands_for(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    principal = await client.principal()
    assert list(principal.projects) == [fake.project]
    assert not principal.HasField("expire_time")


async def test_a_ticket_is_sent_like_a_key_over_the_same_channel(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    made = await client.create_ticket(time_to_live=timedelta(minutes=5), roles=["read"])
    guest = client.with_key(made.ticket)
    principal = await guest.principal()
    assert (list(principal.roles), principal.expire_time) == ([ROLE_READ], made.expire_time)
    assert fake.calls[-1].metadata["authorization"] == f"Bearer {made.ticket}"
    with pytest.raises(PermissionDenied):
        await guest.create_ticket()


async def test_a_ticket_is_renewed_and_given_up(client: AsyncTaskClient) -> None:
    made = await client.create_ticket(renewable_for=timedelta(minutes=30))
    assert (await client.with_key(made.ticket).principal()).HasField("renewal_end_time")
    renewed = await client.with_key(made.ticket).renew_ticket(time_to_live=timedelta(hours=2))
    guest = client.with_key(renewed.ticket)
    principal = await guest.principal()
    assert principal.expire_time == renewed.expire_time
    assert principal.time_left.ToTimedelta() <= timedelta(minutes=30)
    await guest.revoke_ticket()
    with pytest.raises(Unauthenticated):
        await guest.principal()


async def test_a_key_is_neither_renewed_nor_given_up(client: AsyncTaskClient) -> None:
    with pytest.raises(PermissionDenied):
        await client.renew_ticket()
    with pytest.raises(PermissionDenied):
        await client.revoke_ticket()
    plain = await client.create_ticket()
    with pytest.raises(FailedPrecondition):
        await client.with_key(plain.ticket).renew_ticket()


async def test_a_ticket_is_not_made_for_another_project(client: AsyncTaskClient) -> None:
    with pytest.raises(NotFound):
        await client.create_ticket(projects=["elsewhere"])


async def test_closing_a_guest_leaves_the_channel_open(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    async with client.with_key("another-key") as guest:
        with pytest.raises(Unauthenticated):
            await guest.get((await client.submit(PingInput())).id)
    assert (await client.principal()).key_id
    await client.close()
    with pytest.raises(RuntimeError):
        await client.with_key(fake.key).principal()


async def test_a_guest_has_the_project_of_its_host_unless_it_names_one(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    await client.with_key(fake.key, project=fake.project).submit(PingInput())
    assert fake.submissions[-1].project == fake.project
    await client.with_key(fake.key).submit(PingInput())
    assert fake.submissions[-1].project == ""


async def test_what_cannot_be_a_key_is_refused(client: AsyncTaskClient) -> None:
    with pytest.raises(ValueError, match="printable"):
        client.with_key("a b")


async def test_the_stubs_are_made_once(client: AsyncTaskClient) -> None:
    connection = client.connection
    assert connection.tasks is client.with_key("other").connection.tasks
    assert connection.operations is connection.operations


async def test_operators_hold_queues_and_workers(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.workers.append(Worker(id="w-1"))
    assert (await client.pause_queue("system")).HasField("pause_time")
    assert not (await client.resume_queue("system")).HasField("pause_time")
    assert (await client.pause_worker("w-1")).paused
    assert (await client.drain_worker("w-1")).draining
    resumed = await client.resume_worker("w-1")
    assert (resumed.paused, resumed.draining) == (False, False)
    with pytest.raises(NotFound):
        await client.pause_queue("nobody")
    with pytest.raises(NotFound):
        await client.drain_worker("nobody")


async def test_operators_see_how_tasks_fared_and_who_reads_the_log(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.performance.task_types.append(TaskTypePerformance(task_type="ping"))
    fake.log_readers.append(LogReader(name="sidecar"))
    found = await client.performance(window="day")
    assert [each.task_type for each in found.task_types] == ["ping"]
    assert [reader.name for reader in await client.log_readers()] == ["sidecar"]


def test_code_without_asyncio_has_guests_too() -> None:
    with running_fake() as fake, TaskClient(fake.address, key=fake.key) as client:
        ticket = client.create_ticket(roles=["read"])
        with client.with_key(ticket.ticket) as guest:
            assert list(guest.principal().roles) == [ROLE_READ]
        ticket = client.create_ticket(renewable_for=timedelta(hours=1))
        with client.with_key(ticket.ticket) as guest:
            assert guest.renew_ticket().ticket
            guest.revoke_ticket()
        assert client.principal().key_id
