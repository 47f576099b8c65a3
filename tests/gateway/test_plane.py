"""The connections to control: streams of many leave room for calls."""

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest

from callsheet.client.errors import Unauthenticated
from callsheet.gateway.plane import Plane
from callsheet.v1.access_service_pb2 import Principal
from tests.support.gateways import RunningGateway

#: More than control serves over one connection.
STREAMS = 1_100


async def test_calls_are_answered_beside_more_streams_than_one_connection_carries(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.submit()
    plane = gateway.gateway.plane
    async with AsyncExitStack() as stack:
        watches = [plane.streamer(gateway.key).watch(task_id) for _ in range(STREAMS)]
        for watch in watches:
            await stack.enter_async_context(aclosing(watch))
        first = await asyncio.gather(*(anext(watch) for watch in watches))
        assert {event.sequence for event in first} == {1}
        assert (await gateway.http.get(f"/api/v1/tasks/{task_id}")).status_code == 200


async def test_a_key_is_recognised_from_when_control_knew_it_until_it_refuses_it(
    gateway: RunningGateway,
) -> None:
    now = 1000.0
    plane = Plane(gateway.plane.address, clock=lambda: now)
    try:
        assert not plane.is_recognised(gateway.key)
        await plane.principal(gateway.key)
        now += 3600
        assert plane.is_recognised(gateway.key)
        with pytest.raises(Unauthenticated):
            await plane.principal("cs_00000000_wrong")
        assert not plane.is_recognised("cs_00000000_wrong")
        plane.forget(gateway.key)
        assert not plane.is_recognised(gateway.key)
    finally:
        await plane.close()


async def test_only_so_many_keys_are_recognised(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.gateway.plane.REMEMBERED", 1)
    plane, other = gateway.gateway.plane, await gateway.new_key()
    await plane.principal(gateway.key)
    await plane.principal(other)
    assert (plane.is_recognised(gateway.key), plane.is_recognised(other)) == (False, True)


async def test_who_comes_while_control_is_asked_about_a_key_gets_the_same_answer(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = gateway.gateway.plane
    ask, asked = plane.asked_principal, list[str]()

    async def counted(credential: str) -> Principal:
        asked.append(credential)
        return await ask(credential)

    monkeypatch.setattr(plane, "asked_principal", counted)
    first, *others = (asyncio.ensure_future(plane.principal(gateway.key)) for _ in range(20))
    await asyncio.sleep(0)
    # And one that leaves takes the answer from nobody
    first.cancel()
    found = await asyncio.gather(*others)
    assert asked == [gateway.key]
    assert {tuple(principal.projects) for principal in found} == {("default",)}
