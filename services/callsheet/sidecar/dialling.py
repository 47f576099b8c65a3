"""Dials endpoints, and nobody else: names are resolved, vetted and dialled in one place.

What is vetted is what is dialled: between the two no name is resolved again, and the host of the
URL still is what TLS checks and what the Host header says.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

import certifi

from callsheet.runtime.addresses import may_dial
from callsheet.runtime.targets import Target
from callsheet.sidecar.lines import Line

#: Names an attacker can point at dead name servers: so many are asked for at a time, and fewer for
#: one project. Further ones wait for a thread.
_RESOLVING: Final = 32
_OF_ONE_PROJECT: Final = 8
_RESOLVE_TIMEOUT: Final = timedelta(seconds=5)
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
#: Addresses of one name that are dialled in turn.
_DIALLED: Final = 4

#: Returns the addresses of (host, port), at least one, for a project. Raises OSError, ResolverBusy.
Resolve = Callable[[str, int, str], Awaitable[Sequence[str]]]
#: Asks the system for the addresses of (host, port), and blocks meanwhile. Raises OSError.
Addresses = Callable[[str, int], Sequence[str]]
#: Connects to (address, port), with TLS as the named host when a context is given. Raises OSError.
Connect = Callable[[str, int, ssl.SSLContext | None, str | None], Awaitable[Line]]


class AddressRefused(Exception):
    """The host has an address that webhooks must not reach; nothing was dialled."""


class ResolverBusy(Exception):
    """No thread was free to ask for the name: that is our own doing, and none of the endpoint's."""


def public_trust() -> ssl.SSLContext:
    """Return trust in this machine's authorities, and in those that browsers trust."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class Resolver:
    """Asks the system's resolver, in threads of its own, so that a slow name delays only itself.

    Who finds no thread free waits for one, *patience* at most. A thread is taken until the system
    has answered, however long that takes; one project takes a quarter of them at most.
    """

    def __init__(
        self, *, patience: timedelta = timedelta(seconds=3), addresses: Addresses | None = None
    ) -> None:
        self._patience = patience
        self._addresses = addresses or _addresses
        self._threads = ThreadPoolExecutor(_RESOLVING, thread_name_prefix="resolver")
        self._free = asyncio.Semaphore(_RESOLVING)
        #: By project: its share of the threads, and how many have to do with it.
        self._shares: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    async def __call__(self, host: str, port: int, project: str) -> Sequence[str]:
        """Return the host's addresses in the system's order.

        Raises:
            OSError: the name has none, or the system took too long (TimeoutError).
            ResolverBusy: no thread was free in time; nothing was asked.
        """
        asked = await self._asked(host, port, project)
        async with asyncio.timeout(_RESOLVE_TIMEOUT.total_seconds()):
            return await asyncio.wrap_future(asked)

    def close(self) -> None:
        """Let the threads go; one that still waits for a name server ends with its answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _asked(self, host: str, port: int, project: str) -> Future[Sequence[str]]:
        """Return what a thread is asked that is free, and taken until it has answered."""
        share = self._shares.setdefault(project, asyncio.Semaphore(_OF_ONE_PROJECT))
        self._users[project] += 1
        try:
            await self._take(share)
            asked = self._threads.submit(self._addresses, host, port)
        except BaseException:
            self._leave(project)
            raise
        loop = asyncio.get_running_loop()

        def answered(_: Future[Sequence[str]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who waits
                loop.call_soon_threadsafe(self._give_back, project)

        asked.add_done_callback(answered)
        return asked

    async def _take(self, share: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await share.acquire()
                try:
                    await self._free.acquire()
                except BaseException:
                    share.release()
                    raise
        except TimeoutError:
            raise ResolverBusy("too many names are being resolved; this is tried later") from None

    def _give_back(self, project: str) -> None:
        self._free.release()
        self._shares[project].release()
        self._leave(project)

    def _leave(self, project: str) -> None:
        self._users[project] -= 1
        if not self._users[project]:
            del self._users[project], self._shares[project]


async def connect_line(
    address: str, port: int, context: ssl.SSLContext | None, host: str | None
) -> Line:
    """Return an open line to the address. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(Line, address, port, ssl=context, server_hostname=host)
    return line


class Dialler:
    """Connects to public addresses, and to this machine itself where *allow_loopback* says so.

    *trust* says whose certificates count.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        allow_loopback: bool,
        trust: ssl.SSLContext,
        connect: Connect = connect_line,
    ) -> None:
        self._resolve = resolve
        self._allow_loopback = allow_loopback
        self._trust = trust
        self._connect = connect

    async def dial(self, target: Target, *, project: str) -> Line:
        """Connect, for a project, to the first of the target's addresses that answers.

        Raises:
            AddressRefused: one of its addresses must not be reached; none was dialled.
            OSError: the host has no address, or none answered.
            ResolverBusy: the name was not asked for.
        """
        failure: OSError = OSError(f"{target.host} has no address")
        context = self._trust if target.tls else None
        name = target.host if target.tls else None
        for address in (await self._vetted(target, project))[:_DIALLED]:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT.total_seconds()):
                    return await self._connect(address, target.port, context, name)
            except TimeoutError:
                failure = TimeoutError(f"{address} did not answer the connection")
            except OSError as error:
                failure = error
        raise failure

    async def _vetted(self, target: Target, project: str) -> Sequence[str]:
        try:
            addresses = await self._resolve(target.host, target.port, project)
        except (OSError, UnicodeError) as error:
            raise OSError(f"{target.host} was not resolved: {error}") from error
        for address in addresses:
            if not may_dial(ip_address(address), loopback=self._allow_loopback):
                raise AddressRefused(f"{target.host} has the address {address}, not a public one")
        return addresses


def _addresses(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
