"""Dials endpoints, and nobody else: names are resolved, vetted and dialled in one place.

What is vetted is what is dialled: between the two no name is resolved again, and the host of the
URL still is what TLS checks and what the Host header says.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_address
from typing import Final

import certifi

from callsheet.runtime.addresses import may_dial
from callsheet.runtime.targets import Target
from callsheet.sidecar.lines import Line

#: Names an attacker can point at dead name servers; more of them then wait for a thread.
_RESOLVING: Final = 32
_RESOLVE_TIMEOUT: Final = timedelta(seconds=5)
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
#: Addresses of one name that are dialled in turn.
_DIALLED: Final = 4

#: Returns the addresses of a host, at least one. Raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
#: Connects to (address, port), with TLS as the named host when a context is given. Raises OSError.
Connect = Callable[[str, int, ssl.SSLContext | None, str | None], Awaitable[Line]]


class AddressRefused(Exception):
    """The host has an address that webhooks must not reach; nothing was dialled."""


def public_trust() -> ssl.SSLContext:
    """Return trust in this machine's authorities, and in those that browsers trust."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class Resolver:
    """Asks the system's resolver, in threads of its own, so that a slow name delays only itself."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVING, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the host's addresses in the system's order. Raises OSError, TimeoutError too."""
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._threads, _addresses, host, port)
        async with asyncio.timeout(_RESOLVE_TIMEOUT.total_seconds()):
            return await asked

    def close(self) -> None:
        """Let the threads go; one that still waits for a name server ends with its answer."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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

    async def dial(self, target: Target) -> Line:
        """Connect to the first of the target's addresses that answers.

        Raises:
            AddressRefused: one of its addresses must not be reached; none was dialled.
            OSError: the host has no address, or none answered.
        """
        failure: OSError = OSError(f"{target.host} has no address")
        context = self._trust if target.tls else None
        name = target.host if target.tls else None
        for address in (await self._vetted(target))[:_DIALLED]:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT.total_seconds()):
                    return await self._connect(address, target.port, context, name)
            except TimeoutError:
                failure = TimeoutError(f"{address} did not answer the connection")
            except OSError as error:
                failure = error
        raise failure

    async def _vetted(self, target: Target) -> Sequence[str]:
        try:
            addresses = await self._resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise OSError(f"{target.host} was not resolved: {error}") from error
        for address in addresses:
            if not may_dial(ip_address(address), loopback=self._allow_loopback):
                raise AddressRefused(f"{target.host} has the address {address}, not a public one")
        return addresses


def _addresses(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
