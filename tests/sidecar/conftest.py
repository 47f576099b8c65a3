"""A cell with delivery queues for every test."""

import pytest
from redis.asyncio import Redis

from tests.support.sidecars import WebhookCell, webhook_cell


@pytest.fixture
def webhooks(redis: Redis, cell: str) -> WebhookCell:
    """A fresh cell."""
    return webhook_cell(redis, cell)
