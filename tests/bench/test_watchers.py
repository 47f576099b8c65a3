"""The audience of the bench's watchers."""

import asyncio

from callsheet.v1.task_service_pb2 import SubmitTaskRequest
from tests.bench.memory import payload_bytes
from tests.bench.scale_plane import ping
from tests.bench.watchers import Audience


async def test_an_audience_is_complete_when_each_has_seen_it() -> None:
    audience = Audience()
    audience.expect(2)
    audience.see()
    waiting = asyncio.create_task(audience.complete())
    await asyncio.sleep(0)
    assert not waiting.done()
    audience.see()
    assert len(await waiting) == 2


async def test_what_was_seen_before_does_not_count() -> None:
    audience = Audience()
    audience.expect(1)
    audience.see()
    audience.expect(1)
    waiting = asyncio.create_task(audience.complete())
    await asyncio.sleep(0)
    assert not waiting.done()
    audience.see()
    assert len(await waiting) == 1


def test_a_payload_is_what_is_asked_and_what_is_answered() -> None:
    assert payload_bytes(SubmitTaskRequest()) == 0
    # Text in a message in a spec, and text in an output: 2 + 2 + 16 and 2 + 16 bytes.
    assert payload_bytes(ping("0123456789abcdef")) == 38
