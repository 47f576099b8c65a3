"""Addresses of this machine: whether they are free, and whether somebody answers there."""

import asyncio
import contextlib
import socket
from datetime import timedelta
from typing import Final

_CONNECT_TIMEOUT: Final = timedelta(seconds=1)


class AddressTaken(Exception):
    """Another process listens on the address, or it is not one of this machine."""


def free_address(address: str) -> str:
    """Return *address*, its port 0 replaced by a free one.

    Raises AddressTaken when nobody can listen there. The check matters: gRPC servers may share a
    port, and half of the calls would then go to another plane.
    """
    host, port = split_address(address)
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            chosen = probe.getsockname()[1]
    except OSError as error:
        raise AddressTaken(f"nothing can listen on {address}: {error.strerror or error}") from error
    return f"{address.rpartition(':')[0]}:{chosen}"


async def answers_at(address: str) -> bool:
    """Return whether somebody accepts connections at the address."""
    host, port = split_address(address)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CONNECT_TIMEOUT.total_seconds()):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True
    return False


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`, an IPv6 host without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
