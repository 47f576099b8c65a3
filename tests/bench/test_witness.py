"""The two sides of what tasks tell outside of their brokers, and the client that submits them."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.http_caller import dial
from tests.bench.witnessed import Witnessed, witnessing


def in_a_process(witnessed: Witnessed, code: str) -> None:
    subprocess.run(
        [sys.executable, "-c", f"from witness import WITNESS; {code}"],
        env={**os.environ, **witnessed.environment},
        check=True,
        timeout=60,
    )


def test_tasks_are_counted_in_every_process_they_run_in(tmp_path: Path) -> None:
    with witnessing(tmp_path / "witness") as witnessed:
        assert witnessed.ran() == 0
        in_a_process(witnessed, "[WITNESS.ran(timed=False) for _ in range(3)]")
        in_a_process(witnessed, "WITNESS.ran(timed=False)")
        assert sorted(witnessed.by_process().values()) == [1, 3]
        assert witnessed.ran() == 4


def test_a_forked_child_counts_for_itself(tmp_path: Path) -> None:
    with witnessing(tmp_path / "witness") as witnessed:
        fork = "import os; WITNESS.ran(timed=False); child = os.fork(); WITNESS.ran(timed=False)"
        in_a_process(witnessed, f"{fork}; child and os.waitpid(child, 0)")
        assert sorted(witnessed.by_process().values()) == [1, 2]


def test_a_process_that_was_killed_keeps_its_count(tmp_path: Path) -> None:
    with witnessing(tmp_path / "witness") as witnessed:
        dying = "import os; WITNESS.ran(timed=False); os.kill(os.getpid(), 9)"
        with pytest.raises(subprocess.CalledProcessError):
            in_a_process(witnessed, dying)
        assert witnessed.ran() == 1


async def test_a_timed_task_tells_when_it_began(tmp_path: Path) -> None:
    with witnessing(tmp_path / "witness") as witnessed:
        before = time.monotonic_ns()
        await asyncio.to_thread(in_a_process, witnessed, "WITNESS.ran(timed=True)")
        assert before < await witnessed.moment() < time.monotonic_ns()


@pytest.mark.parametrize("status", [b"500 Internal Server Error", b"200 OK"])
async def test_a_task_that_was_not_accepted_ends_the_bench(status: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        caller = await dial(server.sockets[0].getsockname()[1])
        with pytest.raises(SystemExit, match="not accepted"):
            await caller()
        caller.close()


async def test_one_connection_carries_one_task_after_the_other() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            seen.append(await reader.readuntil(b"}"))
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        caller = await dial(server.sockets[0].getsockname()[1])
        await caller()
        await caller(timed=True)
        caller.close()
    assert seen == [b'{"timed": false}', b'{"timed": true}']
