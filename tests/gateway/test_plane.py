"""The connections to control: streams of many leave room for calls."""

import asyncio
from contextlib import AsyncExitStack, aclosing

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
