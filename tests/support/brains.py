"""Brains for tests: small real ones in processes of their own, and clients that know them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from callsheet.brain.brain import Brain
from callsheet.brain.knowledge import KnowledgeRoute
from callsheet.brain.records import EventName, Status, TaskEventWrite
from callsheet.brain.tools import tool_names
from callsheet.brain.transport import Dialling
from tests.support.eventually import eventually

SECONDS: Final = 30.0
EPOCH: Final = "0123456789abcdef"
SOON: Final = timedelta(seconds=SECONDS)
TOKEN: Final = "a-token-of-the-brain"


class SmallBrainProcess:
    """A small brain that may be killed, frozen and started again on the same port."""

    def __init__(self, folder: Path, *, token: str = "", scheme: str = "ws") -> None:
        self.folder = folder
        self._scheme = scheme
        self._environment = {**os.environ, "SMALL_BRAIN_TOKEN": token}
        self._process: subprocess.Popen[bytes] | None = None
        self._generation = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://127.0.0.1:{(self.folder / 'port').read_text()}/mcp"

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it, and return when it listens."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        self._process = self._started()

        async def listens() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, "the small brain ended"
            return ready.exists()

        await eventually(listens)

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.support.small_brain", str(self.folder)]
        return subprocess.Popen(command, env=self._environment)

    def kill(self) -> None:
        """Send SIGKILL, and return when it is gone."""
        if self._process is not None and self.is_alive:
            self._process.kill()
            self._process.wait(SECONDS)

    async def restart(self) -> None:
        """Kill it, and start it on what it had written."""
        self.kill()
        await self.start()

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Stopped by SIGSTOP, as a machine that hangs: its sockets stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def feels(self, **mood: object) -> None:
        """Say what it does wrong from the next call on; nothing: it behaves."""
        made = self.folder / "mood.new"
        made.write_text(json.dumps({**mood, "generation": self._generation}))
        made.rename(self.folder / "mood.json")

    def forget(self) -> None:
        """Make it behave, and know nothing."""
        for name in ("facts.jsonl", "calls.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        self._generation += 1
        self.feels()

    def facts(self) -> list[dict[str, Any]]:
        """Return the facts it has, in the order they were written."""
        return list(_lines(self.folder / "facts.jsonl"))

    def calls(self) -> list[list[Any]]:
        """Return [tool, number of facts] of each call it was sent."""
        return list(_lines(self.folder / "calls.jsonl"))

    async def knows(self, count: int) -> list[dict[str, Any]]:
        """Wait until it has so many facts; return them."""

        async def enough() -> list[dict[str, Any]]:
            facts = self.facts()
            return facts if len(facts) >= count else []

        return await eventually(enough)


def _lines(file: Path) -> Iterator[Any]:
    if file.exists():
        # The last line may be in the making.
        yield from (json.loads(line) for line in file.read_text().split("\n")[:-1])


def client_of(
    url: str,
    *,
    token: str = TOKEN,
    ca_file: Path | None = None,
    renamed: tuple[str, ...] = (),
    time_limit: timedelta = SOON,
    ping: timedelta = timedelta(milliseconds=200),
    knowledge_url: str = "",
    in_flight: int = 64,
) -> Brain:
    """Return a client whose pings and waits are short."""
    dialling = Dialling(
        url=url,
        token=token,
        ca_file=ca_file,
        open_limit=timedelta(seconds=1),
        ping_every=ping,
        ping_limit=ping,
    )
    return Brain(
        dialling,
        jitter=lambda: 0.2,
        names=tool_names(renamed),
        time_limit=time_limit,
        knowledge=KnowledgeRoute(knowledge_url, token=token) if knowledge_url else None,
        in_flight=in_flight,
    )


async def connected(brain: Brain) -> None:
    """Wait until the brain is connected."""
    assert await brain.connection.until_connected(timeout=SOON), brain.connection.reason


async def disconnected(brain: Brain) -> None:
    """Wait until the client has noticed that the brain is away."""

    async def is_away() -> bool:
        return not brain.connection.is_connected

    await eventually(is_away)


def fact(
    task_id: str,
    sequence: int,
    event: EventName = "submitted",
    *,
    status: Status = "queued",
    text: str = "a cat in the rain",
    project: str = "default",
) -> TaskEventWrite:
    """Return a fact of a task."""
    return {
        "epoch": EPOCH,
        "task_id": task_id,
        "sequence": sequence,
        "project": project,
        "event": event,
        "status": status,
        "time": f"2027-03-01T12:00:00.{sequence:06}Z",
        "task_type": "generate_image",
        "text": text,
    }


def environment(brain: SmallBrainProcess) -> Mapping[str, str]:
    """Return what a process is told of the brain."""
    return {"BRAIN_WS_URL": brain.url, "CALLSHEET_BRAIN_TOKEN": TOKEN}
