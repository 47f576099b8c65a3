"""AccessService over the wire, and streams that end with what they were opened by."""

import asyncio
from datetime import timedelta
from typing import cast

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from callsheet.ledger.keys import revoke_key
from callsheet.v1.access_service_pb2 import (
    ROLE_OPERATE,
    ROLE_READ,
    ROLE_SUBMIT,
    CreateTicketRequest,
    CreateTicketResponse,
    GetPrincipalRequest,
    Principal,
    RenewTicketRequest,
    RevokeTicketRequest,
)
from callsheet.v1.task_service_pb2 import ListTasksRequest, WatchTasksRequest
from tests.support.controls import Client, Plane, next_event, ping_request, refusal, until


async def who(client: Client) -> Principal:
    response = await client.access.GetPrincipal(GetPrincipalRequest(), metadata=client.metadata)
    return response.principal


async def ticket(client: Client, **terms: object) -> CreateTicketResponse:
    request = CreateTicketRequest(**terms)  # pyright: ignore[reportArgumentType]  # the message checks its values at run time
    return await client.access.CreateTicket(request, metadata=client.metadata)


async def with_ticket(client: Client, **terms: object) -> Client:
    """Return a client that calls with a new ticket."""
    return Client(client.channel, (await ticket(client, **terms)).ticket)


async def revoke(plane: Plane, client: Client) -> None:
    key_id = (await who(client)).key_id
    assert await revoke_key(plane.redis, cell=plane.cell.keys.cell, key_id=key_id)


async def test_a_key_is_told_what_it_allows(client: Client) -> None:
    found = await who(client)
    assert list(found.projects) == ["default"]
    assert list(found.roles) == [ROLE_SUBMIT, ROLE_READ, ROLE_OPERATE]
    assert client.key.startswith(f"cs_{found.key_id}_")
    assert not found.HasField("expire_time")


async def test_a_ticket_is_told_what_it_allows_and_when_it_expires(client: Client) -> None:
    made = await ticket(client, roles=[ROLE_READ], time_to_live=Duration(seconds=600))
    found = await who(Client(client.channel, made.ticket))
    assert found.key_id == (await who(client)).key_id
    assert (list(found.projects), list(found.roles)) == (["default"], [ROLE_READ])
    assert found.expire_time == made.expire_time


async def test_a_ticket_without_terms_is_good_for_an_hour_and_all_its_key_is(
    plane: Plane, client: Client
) -> None:
    made = await ticket(client)
    time, _ = await plane.cell.store.due(plane.cell.keys.delayed, limit=0)
    left = timedelta(microseconds=made.expire_time.ToMicroseconds() - time)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    found = await who(Client(client.channel, made.ticket))
    assert list(found.roles) == [ROLE_SUBMIT, ROLE_READ, ROLE_OPERATE]


async def test_a_ticket_does_what_it_allows_and_nothing_else(client: Client) -> None:
    reader = await with_ticket(client, roles=[ROLE_READ])
    task_id = await client.submit()
    listed = await reader.tasks.ListTasks(ListTasksRequest(), metadata=reader.metadata)
    assert [task.id for task in listed.tasks] == [task_id]
    told = await refusal(reader.tasks.SubmitTask(ping_request(), metadata=reader.metadata))
    assert (told.code, told.reason) == (StatusCode.PERMISSION_DENIED, "ROLE_MISSING")


async def test_a_ticket_cannot_make_tickets(client: Client) -> None:
    told = await refusal(ticket(await with_ticket(client)))
    assert (told.code, told.reason) == (StatusCode.PERMISSION_DENIED, "KEY_NEEDED")


async def test_a_ticket_is_not_made_for_a_role_or_project_the_key_has_not(plane: Plane) -> None:
    reader = await plane.newcomer(projects=frozenset({"default"}), roles=frozenset({"read"}))
    told = await refusal(ticket(reader, roles=[ROLE_READ, ROLE_OPERATE]))
    assert (told.code, told.reason) == (StatusCode.PERMISSION_DENIED, "ROLE_MISSING")
    told = await refusal(ticket(reader, projects=["elsewhere"]))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")


async def test_nothing_is_kept_of_a_ticket(plane: Plane, client: Client) -> None:
    await ticket(client)
    before = await plane.written()
    await ticket(client)
    assert await plane.written() == before


async def test_a_ticket_is_renewed_until_its_renewals_end(client: Client) -> None:
    made = await with_ticket(
        client, time_to_live=Duration(seconds=60), renewable_for=Duration(seconds=90)
    )
    before = await who(made)
    assert before.time_left.seconds < 60
    renewed = await made.access.RenewTicket(
        RenewTicketRequest(time_to_live=Duration(seconds=600)), metadata=made.metadata
    )
    after = await who(Client(client.channel, renewed.ticket))
    assert after.expire_time == after.renewal_end_time == before.renewal_end_time
    assert renewed.expire_time == after.expire_time


@pytest.mark.parametrize("method", ["RenewTicket", "RevokeTicket"])
async def test_a_key_is_neither_renewed_nor_given_up(client: Client, method: str) -> None:
    told = await refusal(client.raw(f"AccessService/{method}", b""))
    assert (told.code, told.reason) == (StatusCode.PERMISSION_DENIED, "TICKET_NEEDED")


async def test_a_ticket_without_renewals_is_not_renewed(client: Client) -> None:
    plain = await with_ticket(client)
    told = await refusal(plain.raw("AccessService/RenewTicket", b""))
    assert (told.code, told.reason) == (StatusCode.FAILED_PRECONDITION, "TICKET_NOT_RENEWABLE")


async def test_what_was_opened_with_a_ticket_ends_when_it_is_revoked(client: Client) -> None:
    """Calls and streams of it and of its renewals, and none of another ticket of the key."""
    first = await with_ticket(client, renewable_for=Duration(seconds=3600))
    renewed = await first.access.RenewTicket(RenewTicketRequest(), metadata=first.metadata)
    second, other = Client(client.channel, renewed.ticket), await with_ticket(client)
    task_id = await client.submit()
    watches = [caller.watch(task_id) for caller in (first, second, other)]
    for watch in watches:
        await next_event(watch)
    await second.access.RevokeTicket(RevokeTicketRequest(), metadata=second.metadata)
    for watch in watches[:2]:
        told = await refusal(watch.read())
        assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "TICKET_REVOKED")
    told = await refusal(who(first))
    assert told.reason == "TICKET_REVOKED"
    assert (await who(other)).key_id
    assert not watches[2].done()
    watches[2].cancel()


@pytest.mark.parametrize("by", ["key", "ticket"])
async def test_streams_end_when_their_key_is_revoked(plane: Plane, by: str) -> None:
    """Those of the key and of its tickets, and nobody else's."""
    key = await plane.newcomer(projects=frozenset({"default"}))
    caller = key if by == "key" else await with_ticket(key)
    task_id = await plane.client.submit()
    one = caller.watch(task_id)
    await next_event(one)
    many = caller.tasks.WatchTasks(
        WatchTasksRequest(snapshot_size=0), metadata=caller.metadata, timeout=30
    )
    await many.read()
    other = plane.client.watch(task_id)
    await next_event(other)
    await revoke(plane, key)
    for call in (one, many):
        told = await refusal(cast("asyncio.Future[object]", call.read()))
        assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "KEY_INVALID")
    await until(lambda: plane.control.hub.watchers == 1)
    assert not other.done()
    other.cancel()


async def test_streams_end_when_their_ticket_expires(plane: Plane, client: Client) -> None:
    caller = await with_ticket(client, time_to_live=Duration(seconds=1))
    watch = caller.watch(await client.submit())
    await next_event(watch)
    told = await refusal(watch.read())
    assert (told.code, told.reason) == (StatusCode.UNAUTHENTICATED, "TICKET_EXPIRED")


async def test_a_stream_that_nobody_reads_ends_too(plane: Plane) -> None:
    """What is held up by a reader who takes nothing is given up where it stands."""
    caller = await plane.newcomer(projects=frozenset({"default"}))
    # Given more than the transport takes ahead of its reader
    for _ in range(64):
        await plane.client.submit(ping_request(metadata={f"k{n}": "x" * 1024 for n in range(16)}))
    watch = caller.tasks.WatchTasks(WatchTasksRequest(), metadata=caller.metadata)
    await until(lambda: plane.control.hub.watchers == 1)
    # When its key is revoked, then the server gives the stream up
    await revoke(plane, caller)
    await until(lambda: plane.control.hub.watchers == 0)
    watch.cancel()
