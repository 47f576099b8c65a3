"""Brains that are away, die, hang, or are somebody else's."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from callsheet.brain.errors import BrainError, BrainRefused, BrainUnavailable
from callsheet.brain.transport import WebSocketTransport
from tests.support.authorities import Authority
from tests.support.brains import (
    TOKEN,
    SmallBrainProcess,
    client_of,
    connected,
    disconnected,
    fact,
)


async def test_a_brain_that_was_killed_is_found_again_and_has_every_fact_once(
    small_brain: SmallBrainProcess,
) -> None:
    """Eight writers do not notice more than errors they may try again after."""
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        done = asyncio.Event()

        async def write(writer: int) -> int:
            number = 0
            while not done.is_set():
                try:
                    await brain.store_task_events([fact(f"t{writer}", number + 1)])
                except BrainUnavailable:
                    await connected(brain)
                else:
                    number += 1
            return number

        writers = [asyncio.create_task(write(number)) for number in range(8)]
        await small_brain.knows(100)
        await small_brain.restart()
        await small_brain.knows(200)
        done.set()
        counts = await asyncio.gather(*writers)
    keys = [(each["task_id"], each["sequence"]) for each in small_brain.facts()]
    assert len(keys) == len(set(keys)) == sum(counts)


async def test_a_connection_whose_other_end_is_silent_is_noticed(
    small_brain: SmallBrainProcess,
) -> None:
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        with small_brain.frozen():
            with pytest.raises(BrainUnavailable):
                await brain.store_task_events([fact("t1", 1)])
            await disconnected(brain)
            with pytest.raises(BrainUnavailable, match="away"):
                await brain.store_task_events([fact("t1", 1)])
        await connected(brain)
        answer = await brain.store_task_events([fact("t1", 1)])
        assert answer.written + answer.repeated == 1
    assert len(small_brain.facts()) == 1


@pytest.mark.parametrize("code", [-32000, -32001])
async def test_an_error_by_a_code_of_lost_connections_is_a_refusal_while_the_connection_stands(
    small_brain: SmallBrainProcess, code: int
) -> None:
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        small_brain.feels(error=code)
        with pytest.raises(BrainRefused, match="as JSON-RPC says it"):
            await brain.health_check()
        small_brain.feels()
        assert (await brain.health_check()).status == "ok"


async def test_a_connection_that_a_call_calls_lost_is_made_anew(
    small_brain: SmallBrainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        # Given a loss that a call notices, while the socket's end is not seen yet
        small_brain.feels(error=-32000)
        with monkeypatch.context() as patch:
            patch.setattr(WebSocketTransport, "is_over", property(lambda _: True))
            with pytest.raises(BrainUnavailable):
                await brain.health_check()
        small_brain.feels()
        # Then the owner connects again
        await connected(brain)
        assert (await brain.health_check()).status == "ok"


async def test_a_silent_end_is_noticed_though_our_own_buffers_are_full(
    small_brain: SmallBrainProcess,
) -> None:
    """Pings wait in the same buffers, and the time of each call is kept all the same."""
    async with client_of(small_brain.url, ping=timedelta(seconds=30)) as brain:
        await connected(brain)
        with small_brain.frozen():
            large = [fact("t1", 1, text="x" * 8 * 2**20)]
            limit = timedelta(milliseconds=200)
            calls = (brain.store_task_events(large, time_limit=limit) for _ in range(3))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(answer) for answer in answers] == [BrainUnavailable] * 3
        await connected(brain)
        assert (await brain.health_check()).status == "ok"


async def test_a_brain_that_is_not_there_is_said_once_and_waited_for(
    small_brain: SmallBrainProcess,
) -> None:
    small_brain.kill()
    with capture_logs() as logs:
        async with client_of(small_brain.url) as brain:
            soon = timedelta(milliseconds=500)
            assert not await brain.connection.until_connected(timeout=soon)
            with pytest.raises(BrainUnavailable, match="away"):
                await brain.health_check()
            assert "refused" in brain.connection.reason or "Connect" in brain.connection.reason
            await small_brain.start()
            await connected(brain)
    assert [line["event"] for line in logs] == ["brain_away", "brain_connected"]


async def test_a_wrong_token_is_told_of(small_brain: SmallBrainProcess) -> None:
    async with client_of(small_brain.url, token="guessed") as brain:
        assert not await brain.connection.until_connected(timeout=timedelta(seconds=1))
        assert "401" in brain.connection.reason
        with pytest.raises(BrainError, match="401"):
            await brain.health_check()


async def test_a_private_authority_is_trusted_when_its_file_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.certify("127.0.0.1", tmp_path / "certificate.pem")
    process = SmallBrainProcess(tmp_path, token=TOKEN, scheme="wss")
    await process.start()
    try:
        async with client_of(process.url, ca_file=authority.file) as brain:
            await connected(brain)
            assert (await brain.health_check()).status == "ok"
        async with client_of(process.url) as brain:
            assert not await brain.connection.until_connected(timeout=timedelta(seconds=1))
            assert "CERTIFICATE_VERIFY_FAILED" in brain.connection.reason
    finally:
        process.kill()


async def test_a_ca_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        client_of("wss://127.0.0.1:1/mcp", ca_file=tmp_path / "ca.pem")
    with pytest.raises(FileNotFoundError):
        client_of("wss://127.0.0.1:1/mcp", ca_file=tmp_path / "missing.pem")
