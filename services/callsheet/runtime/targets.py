"""What a callback URL means: who is dialled, and what is asked of them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import httpx

#: The line in which deliveries wait whose URL means nothing; they end at their first try.
NOWHERE: Final = "nowhere"
_PORTS: Final = {"http": 80, "https": 443}


class TargetRefused(Exception):
    """The URL can never be dialled; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint, ready to be dialled and asked."""

    tls: bool
    #: As it is dialled and as TLS checks it: ASCII, without brackets.
    host: str
    port: int
    #: The path and query.
    path: bytes
    host_header: bytes

    @property
    def origin(self) -> str:
        """The scheme, host and port: what an API key is bound to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The origin and the path, without a query: deliveries to one endpoint wait in one line."""
        return self.origin + self.path.partition(b"?")[0].decode("ascii")


@lru_cache(maxsize=1024)
def parse_target(url: str) -> Target:
    """Return what the URL means. Raises TargetRefused."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise TargetRefused(f"the URL is not valid: {error}") from None
    if parsed.scheme not in _PORTS:
        raise TargetRefused(f"the URL's scheme is {parsed.scheme!r}, not https or http")
    if parsed.userinfo:
        raise TargetRefused("the URL carries a user or password")
    port = _PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not parsed.raw_host or not 0 < port < 65_536:
        raise TargetRefused("the URL names no host and port that can be dialled")
    return Target(
        tls=parsed.scheme == "https",
        host=parsed.raw_host.decode("ascii"),
        port=port,
        path=parsed.raw_path,
        host_header=parsed.netloc,
    )


def callback_endpoint(url: str) -> str:
    """Return the URL's endpoint, or NOWHERE."""
    try:
        return parse_target(url).endpoint
    except TargetRefused:
        return NOWHERE
