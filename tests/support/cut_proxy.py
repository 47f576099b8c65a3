"""A proxy before Redis that loses what a network loses: requests, replies, and patience."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote, unquote, urlsplit

_CHUNK: Final = 1 << 16


class Fate(Enum):
    """What becomes of one exchange of a command and its reply."""

    PASS = "pass"
    #: The connection breaks before the server sees the command.
    CUT = "cut"
    #: The command is executed, and the connection breaks instead of the reply.
    CUT_AFTER = "cut after"
    #: The command is executed, and the reply comes when the proxy is told to let it.
    DELAY = "delay"
    #: Neither a reply nor a break: the server never sees the command.
    DROP = "drop"


#: Says what becomes of an exchange, from the first bytes of its command.
Judge = Callable[[bytes], Fate]


def always(fate: Fate, *, word: bytes = b"EVAL", times: int = 1_000_000) -> Judge:
    """Return the judge that gives this fate to the next so many commands with the word."""
    left = times

    def judge(command: bytes) -> Fate:
        nonlocal left
        if left == 0 or word not in command:
            return Fate.PASS
        left -= 1
        return fate

    return judge


def sometimes(fate: Fate, *, chance: float, seed: int, word: bytes = b"EVAL") -> Judge:
    """Return the judge that gives this fate to some of the commands with the word."""
    dice = random.Random(seed)  # noqa: S311  # chance that a test can repeat, no secret

    def judge(command: bytes) -> Fate:
        return fate if word in command and dice.random() < chance else Fate.PASS

    return judge


def lots(choices: Sequence[str], *, seed: int) -> Callable[[], str]:
    """Return what draws one of the choices, the same ones in every run."""
    dice = random.Random(seed)  # noqa: S311  # chance that a test can repeat, no secret
    return lambda: dice.choice(choices)


class CutProxy:
    """Stands before one server; *judge* may be changed at any time."""

    def __init__(self, url: str, upstream: Path) -> None:
        self.url = url
        self.judge: Judge = lambda _: Fate.PASS
        #: How many exchanges did not pass.
        self.troubled = 0
        self.delayed = asyncio.Event()
        self.release = asyncio.Event()
        self._upstream = upstream

    async def carry(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Carry one connection until either side, or its fate, ends it."""
        try:
            server, commands = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            return
        exchange = _Exchange(self)
        pumps = {
            asyncio.ensure_future(exchange.carry_commands(client, commands)),
            asyncio.ensure_future(exchange.carry_replies(server, answers)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Closed before anything is awaited, for this may be cancelled again.
            commands.close()
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


class _Exchange:
    """The command and reply that one connection is at.

    Clients here send a command and wait for its reply: what they send after a reply has begun is
    the next command.
    """

    def __init__(self, proxy: CutProxy) -> None:
        self._proxy = proxy
        self._is_replied = True
        self._fate = Fate.PASS

    async def carry_commands(
        self, client: asyncio.StreamReader, commands: asyncio.StreamWriter
    ) -> None:
        while chunk := await client.read(_CHUNK):
            if self._is_replied:
                self._is_replied = False
                self._fate = self._proxy.judge(chunk)
                self._proxy.troubled += self._fate is not Fate.PASS
            if self._fate is Fate.CUT:
                return
            if self._fate is not Fate.DROP:
                commands.write(chunk)

    async def carry_replies(
        self, server: asyncio.StreamReader, answers: asyncio.StreamWriter
    ) -> None:
        while chunk := await server.read(_CHUNK):
            if self._fate is Fate.CUT_AFTER:
                return
            if self._fate is Fate.DELAY and not self._is_replied:
                self._proxy.delayed.set()
                await self._proxy.release.wait()
            self._is_replied = True
            answers.write(chunk)


@asynccontextmanager
async def cut_proxy(server_url: str) -> AsyncGenerator[CutProxy, None]:
    """Stand before the server of a unix:// URL, at a unix:// URL of its own."""
    # Not in a test's own folder, whose path may be too long for a socket.
    with TemporaryDirectory(prefix="proxy-") as folder:
        own = Path(folder) / "proxy.sock"
        upstream = Path(unquote(urlsplit(server_url).path))
        async with _listening(CutProxy(f"unix://{quote(str(own))}?db=0", upstream), own) as proxy:
            yield proxy


@asynccontextmanager
async def _listening(proxy: CutProxy, own: Path) -> AsyncGenerator[CutProxy, None]:
    connections = set[asyncio.Task[None]]()

    async def connected(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        connections.add(this)
        try:
            await proxy.carry(client, answers)
        except asyncio.CancelledError:
            return
        finally:
            answers.close()
            connections.discard(this)

    listener = await asyncio.start_unix_server(connected, own)
    try:
        yield proxy
    finally:
        listener.close()
        for each in set(connections):
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
