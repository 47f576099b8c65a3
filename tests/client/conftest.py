"""A fake plane, and a client that does not take its time between tries."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from callsheet.client import AsyncTaskClient, BackoffPolicy
from callsheet.client.testing import FakeTaskService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Short waits between tries: the rules are the same, the test is quicker.
QUICK = BackoffPolicy(initial=timedelta(milliseconds=1), maximum=timedelta(milliseconds=20))


@pytest.fixture
async def fake() -> AsyncIterator[FakeTaskService]:
    """A plane in memory, on a real port."""
    async with FakeTaskService() as service:
        yield service


@pytest.fixture
async def client(fake: FakeTaskService) -> AsyncIterator[AsyncTaskClient]:
    """A client of the plane, with its key."""
    async with AsyncTaskClient(fake.address, key=fake.key, backoff=QUICK) as connected:
        yield connected
