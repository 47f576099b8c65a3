"""The life of a process: run until told to stop, drain for a bounded time, say how it ended."""

import asyncio
import contextlib
import faulthandler
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, cast

import structlog
import uvloop

#: Exit codes of run_until_signalled.
EXIT_STOPPED: Final = 0
EXIT_FAILED: Final = 1
EXIT_DRAIN_TIMED_OUT: Final = 3

#: Names the inherited pipe on which a process tells its supervisor that it is ready.
READY_VARIABLE: Final = "CALLSHEET_READY_FD"
READY_LINE: Final = b"READY\n"

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: What a cancelled main, and then the interpreter, get to end in before the process is ended.
_LAST_MOMENTS: Final = timedelta(seconds=5)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def run_until_signalled(
    main: Callable[[asyncio.Event], Awaitable[None]],
    *,
    drain_timeout: timedelta = timedelta(seconds=30),
) -> int:
    """Run *main* on uvloop and return the process's exit code.

    The first SIGTERM or SIGINT sets the event that *main* was given; *main* then has
    *drain_timeout* to return, and is cancelled after it. A second signal ends the process at
    once. Returns 0 when *main* returned, 1 when it raised (which is logged), 3 when it had to be
    cancelled; a SystemExit of *main* is logged and decides itself. Should even that not end it,
    the stacks of all threads are written to stderr and the process ends with 1.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        exit_code = runner.run(_until_signalled(main, drain_timeout=drain_timeout))
    faulthandler.cancel_dump_traceback_later()
    return exit_code


def process_name() -> str:
    """Return a name for this process that no other one has: its host, its id, and chance."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def announce_ready() -> None:
    """Tell the supervisor that started this process, if one did, that it does its work now."""
    # Popped, so that processes which this one starts do not believe it to be theirs.
    descriptor = os.environ.pop(READY_VARIABLE, "")
    if descriptor.isdecimal():
        with contextlib.suppress(OSError), os.fdopen(int(descriptor), "wb", buffering=0) as pipe:
            pipe.write(READY_LINE)


async def _until_signalled(
    main: Callable[[asyncio.Event], Awaitable[None]], *, drain_timeout: timedelta
) -> int:
    stop = asyncio.Event()
    _on_first_signal(stop, drain_timeout=drain_timeout)
    running = asyncio.ensure_future(_outcome(main, stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not running.done():
        await asyncio.wait({running}, timeout=drain_timeout.total_seconds())
    if running.done():
        return _ended(running)
    _log.error("drain_timed_out", drain_seconds=drain_timeout.total_seconds())
    running.cancel()
    await asyncio.wait({running}, timeout=_LAST_MOMENTS.total_seconds())
    return EXIT_DRAIN_TIMED_OUT


def _on_first_signal(stop: asyncio.Event, *, drain_timeout: timedelta) -> None:
    loop = asyncio.get_running_loop()

    def begin_drain(received: signal.Signals) -> None:
        _log.info("stop_requested", signal=received.name)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            # The kernel's own answer: it ends even a process that no longer runs Python.
            signal.signal(each, signal.SIG_DFL)
        # A watchdog in C, for a main, a thread or a destructor that does not come to an end.
        last = drain_timeout + 2 * _LAST_MOMENTS
        faulthandler.dump_traceback_later(last.total_seconds(), exit=True)
        stop.set()

    for each in _SIGNALS:
        loop.add_signal_handler(each, begin_drain, each)


async def _outcome(main: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> int:
    try:
        await main(stop)
    except SystemExit as refusal:
        # Caught here, because the event loop would end on it in the middle of everything else.
        if refusal.code is None or isinstance(refusal.code, int):
            return refusal.code or EXIT_STOPPED
        _log.error("process_refused", reason=refusal.code)
        return EXIT_FAILED
    return EXIT_STOPPED


def _ended(running: asyncio.Future[int]) -> int:
    if running.cancelled():
        _log.error("process_cancelled")
        return EXIT_FAILED
    if (error := running.exception()) is not None:
        _log.critical("process_failed", exc_info=error)
        return EXIT_FAILED
    return running.result()
