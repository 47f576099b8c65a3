"""Whether a control plane serves, asked without a key."""

import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from callsheet.client.errors import DeadlineExceeded, Unavailable, Unimplemented
from callsheet.client.health import ControlHealth
from callsheet.client.testing import FakeTaskService
from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.controls import Plane, running_plane

SECONDS = timedelta(seconds=30)


@pytest.fixture
async def plane(valkey_server: EmbeddedValkey, cell: str) -> AsyncIterator[Plane]:
    async with running_plane(valkey_server.url, cell) as plane:
        yield plane


async def test_a_control_plane_says_whether_its_ledger_answers(plane: Plane) -> None:
    health = ControlHealth(plane.address)
    try:
        assert await health.is_serving(timeout=SECONDS)
        plane.control.pulse.on_look.clear()
        plane.control.health.set(False)
        assert not await health.is_serving(timeout=SECONDS)
    finally:
        await health.close()


async def test_what_is_no_control_plane_is_an_error_of_the_call(fake: FakeTaskService) -> None:
    health = ControlHealth(fake.address)
    try:
        with pytest.raises(Unimplemented):
            await health.is_serving(timeout=SECONDS)
    finally:
        await health.close()


async def test_nobody_at_the_address_is_unavailable_and_it_may_be_asked_again() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and never listening
        health = ControlHealth(f"127.0.0.1:{nobody.getsockname()[1]}")
        for _ in range(2):
            with pytest.raises((Unavailable, DeadlineExceeded)):
                await health.is_serving(timeout=SECONDS)
            await health.close()
    await health.close()
