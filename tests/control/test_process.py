"""`python -m callsheet.control` as a real process: started, told to stop, killed."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import pytest
from grpc import StatusCode, aio
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.keys import create_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import ALL_ROLES, Client, next_event, ping_request, refusal
from tests.support.cut_proxy import Fate, always, cut_proxy
from tests.support.ledgers import redis_cell
from tests.support.processes import Room, room
from tests.support.work import succeeded


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def environment(valkey_server: EmbeddedValkey, cell: str) -> dict[str, str]:
    """The environment of a control process."""
    return {
        "REDIS_URL": valkey_server.url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_GRPC_ADDRESS": _free_address(),
    }


@pytest.fixture
async def key(redis: Redis, cell: str) -> str:
    """The text of a key of the default project."""
    _, text = await create_key(redis, cell=cell, projects=frozenset({"default"}), roles=ALL_ROLES)
    return text


@asynccontextmanager
async def _connected(environment: Mapping[str, str], key: str) -> AsyncGenerator[Client]:
    async with aio.insecure_channel(environment["CALLSHEET_GRPC_ADDRESS"]) as channel:
        yield Client(channel, key)


async def test_on_sigterm_watchers_are_sent_elsewhere_and_calls_in_flight_end_well(
    environment: dict[str, str], valkey_server: EmbeddedValkey, key: str
) -> None:
    async with cut_proxy(valkey_server.url) as proxy:
        environment["REDIS_URL"] = proxy.url
        # Off the loop: the process talks to Redis through a proxy that lives on it
        control = Room("control", environment)
        await asyncio.to_thread(control.await_ready)
        async with _connected(environment, key) as client:
            watch = client.watch(await client.submit())
            await next_event(watch)
            # Given a submission whose commit is on its way
            proxy.judge = always(Fate.DELAY, word=b"task_submitted-in-flight", times=1)
            request = ping_request("task_submitted-in-flight")
            submission = asyncio.ensure_future(client.submit(request))
            await proxy.delayed.wait()
            # When the server is told to stop, then the watcher is told, and the submission ends
            control.process.terminate()
            told = await refusal(watch.read())
            assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
            proxy.release.set()
            assert await submission
        assert await asyncio.to_thread(control.process.wait, 60) == 0


async def test_what_was_accepted_outlives_a_killed_server(
    environment: dict[str, str], redis: Redis, cell: str, key: str
) -> None:
    with room("control", environment) as first:
        async with _connected(environment, key) as client:
            task_id = await client.submit()
            watch = client.watch(task_id)
            seen = [(await next_event(watch)).sequence]
            first.kill()
            told = await refusal(watch.read())
            assert told.code is StatusCode.UNAVAILABLE
    await succeeded(redis_cell(RedisConnection(redis), cell), task_id)
    with room("control", environment):
        async with _connected(environment, key) as client:
            watch = client.watch(task_id, after=seen[-1])
            seen += [(await next_event(watch)).sequence for _ in range(2)]
            assert seen == [1, 2, 3]
            assert await watch.read() is aio.EOF
            request = GetTaskRequest(task_id=task_id)
            found = await client.tasks.GetTask(request, metadata=client.metadata)
            assert found.task.sequence == 3


def test_a_taken_address_ends_the_process_with_a_reason(
    environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with room("control", environment):
        second = Room("control", environment)
        assert second.process.wait(60) == 1
    said = capfd.readouterr().err
    assert "cannot listen at" in said
    assert "Traceback" not in said


def test_bad_settings_end_the_process_at_once(
    environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    environment["CALLSHEET_GRPC_ADDRESS"] = "nowhere"
    assert Room("control", environment).process.wait(60) == EXIT_SETTINGS_REFUSED
    assert "CALLSHEET_GRPC_ADDRESS" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("REDIS_URL", "", "REDIS_URL is not set"),
        ("REDIS_URL", "unix:///nowhere/valkey.sock", "No such file"),
        ("CALLSHEET_MODELS", "/nowhere/models.toml", "models.toml"),
    ],
    ids=["no redis", "an absent redis", "an absent catalogue"],
)
def test_what_is_missing_ends_the_process_with_a_sentence(
    environment: dict[str, str],
    variable: str,
    value: str,
    reason: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    environment[variable] = value
    assert Room("control", environment).process.wait(60) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if "process_refused" in line]
    assert len(said) == 1
    assert reason in said[0]
