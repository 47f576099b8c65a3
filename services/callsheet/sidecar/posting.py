"""Posts webhooks over HTTP: one request, no redirects, little patience, little reading."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from callsheet.runtime.targets import Target
from callsheet.sidecar.dialling import Dialler
from callsheet.sidecar.lines import Head, Line, LineClosed

#: How long an answer's body may take, and at most a quarter of the time limit: its status is told.
_READING: Final = timedelta(seconds=1)
#: Shorter than the five seconds after which common servers hang up, so that none does meanwhile.
_KEEP_ALIVE: Final = timedelta(seconds=4)
#: Lines that are kept open between requests.
_MOST_KEPT: Final = 128


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered."""

    status: int
    #: The Retry-After header; empty: there was none.
    retry_after: str


class Poster:
    """Makes requests, and keeps lines for further ones; an async context manager.

    Every request ends within *time_limit*. A line serves its own origin only, so that no host
    answers for another one at the same address.
    """

    def __init__(self, dialler: Dialler, *, time_limit: timedelta) -> None:
        self._dialler = dialler
        self._time_limit = time_limit
        self._kept: dict[str, list[Line]] = {}
        self._kept_count = 0

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every line."""
        for lines in self._kept.values():
            for line in lines:
                line.close()
        self._kept.clear()
        await asyncio.sleep(0)  # closed connections end at the loop's next turn

    async def post(
        self, target: Target, headers: Iterable[tuple[str, str]], body: bytes, *, project: str
    ) -> Answer:
        """Send the request for a project and return what was answered, whatever its status.

        Raises:
            ValueError: a header has a line break.
            AddressRefused: the host must not be reached; nothing was dialled.
            TimeoutError: no status came within the time limit.
            OSError: the line was not made, or broke.
            AnswerUnreadable: the endpoint speaks no HTTP.
            ResolverBusy: its name was not asked for, and nothing was sent.
        """
        request = _request(target, headers, body)
        # One limit for all of it: a dripping endpoint never makes a single read wait long.
        async with asyncio.timeout(self._time_limit.total_seconds()):
            line, head = await self._asked(target, request, project)
        if not line.is_finished:
            await self._finish(line)
        if line.may_serve_again and self._kept_count < _MOST_KEPT:
            self._keep(line)
        else:
            line.close()
        retry_after = next((value for name, value in head.headers if name == b"retry-after"), b"")
        return Answer(head.status, retry_after.decode("latin-1"))

    async def _asked(self, target: Target, request: bytes, project: str) -> tuple[Line, Head]:
        kept = self._take(target.origin)
        if kept is not None:
            with contextlib.suppress(LineClosed):  # it was closed while nobody spoke: dial anew
                return kept, await _ask(kept, request)
        line = await self._dialler.dial(target, project=project)
        line.origin = target.origin
        return line, await _ask(line, request)

    async def _finish(self, line: Line) -> None:
        within = min(_READING, self._time_limit / 4)
        try:
            async with asyncio.timeout(within.total_seconds()):
                await line.finish()
        except TimeoutError:
            pass  # the status was told, and only it counts
        except BaseException:
            line.close()
            raise

    def _keep(self, line: Line) -> None:
        self._kept.setdefault(line.origin, []).append(line)
        self._kept_count += 1
        loop = asyncio.get_running_loop()
        line.expiry = loop.call_later(_KEEP_ALIVE.total_seconds(), self._expire, line)

    def _take(self, origin: str) -> Line | None:
        """Return the line that was kept last, if one is open."""
        while lines := self._kept.get(origin):
            line = lines[-1]
            self._let_go(line)
            if line.is_open:
                return line
            line.close()
        return None

    def _expire(self, line: Line) -> None:
        self._let_go(line)
        line.close()

    def _let_go(self, line: Line) -> None:
        lines = self._kept[line.origin]
        lines.remove(line)
        if not lines:
            del self._kept[line.origin]
        self._kept_count -= 1
        if line.expiry is not None:
            line.expiry.cancel()


def _request(target: Target, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines = [
        b"POST " + target.path + b" HTTP/1.1",
        b"host: " + target.host_header,
        b"content-length: %d" % len(body),
    ]
    lines += (f"{name}: {value}".encode("ascii") for name, value in headers)
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise ValueError("a header of a webhook has a line break")
    return b"\r\n".join((*lines, b"", body))


async def _ask(line: Line, request: bytes) -> Head:
    try:
        return await line.ask(request)
    except BaseException:
        line.close()
        raise
