"""`callsheetd up`: the whole plane on this machine, supervised, stopped in order."""

import asyncio
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import psutil
import structlog
from redis.exceptions import RedisError

from callsheet.embedded.addresses_file import forget_addresses, note_addresses
from callsheet.embedded.child import Child, ChildPlan, ChildReport
from callsheet.embedded.console import Console, Readiness, last_words
from callsheet.embedded.deadline import Deadline
from callsheet.embedded.development_key import DEVELOPMENT_PROJECTS, development_key
from callsheet.embedded.embedded_brain import (
    BRAIN,
    BRAIN_MODULE,
    brain_environment,
    is_installed,
    is_wanted,
)
from callsheet.embedded.endpoints import AddressTaken, answers_at, free_address
from callsheet.embedded.engine import EngineUnfit
from callsheet.embedded.gateway_room import (
    GATEWAY,
    GatewayAddresses,
    gateway_addresses,
    gateway_environment,
)
from callsheet.embedded.log_file import cap
from callsheet.embedded.module_command import module_command
from callsheet.embedded.state_folder import StateFolder, StateFolderTaken
from callsheet.embedded.supervisor import Supervisor
from callsheet.embedded.valkey import EmbeddedValkey, ValkeyUnavailable
from callsheet.ledger.errors import LedgerError
from callsheet.runtime.lifecycle import EXIT_FAILED, announce_ready, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.redis import RedisUnfit, check_ledger_server, connect
from callsheet.runtime.secrets import SecretUnusable
from callsheet.runtime.settings import Settings, without_password

VALKEY: Final = "valkey"
CONTROL: Final = "control"

#: The rooms that are processes, in the order in which they are started.
ROOMS: Final = (BRAIN, CONTROL, GATEWAY, "upkeep", "worker", "sidecar")

#: Each stops while all that it needs to finish its work still runs; the truth stops last.
STOP_ORDER: Final = ("worker", "sidecar", BRAIN, "upkeep", GATEWAY, CONTROL, VALKEY)

_READY_TIMEOUT: Final = timedelta(seconds=60)
#: A server reads its whole append-only file before it answers.
_LOAD_TIMEOUT: Final = timedelta(minutes=5)
#: What a process may take beyond its own drain timeout before it is killed.
_DRAIN_MARGIN: Final = timedelta(seconds=15)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class UpFailed(Exception):
    """The plane could not be brought up."""


def room_command(room: str) -> tuple[str, ...]:
    """Return the command line that runs a room as a process."""
    return tuple(module_command(BRAIN_MODULE if room == BRAIN else room))


def run_up(
    settings: Settings,
    *,
    console: Console,
    rooms: Mapping[str, tuple[str, ...]] | None = None,
    ready_timeout: timedelta = _READY_TIMEOUT,
) -> int:
    """Run the plane until it is told to stop; return 0, or 1 when it did not come up.

    *rooms* are the command lines of its processes, by name.
    """
    log = settings.state_dir / "logs" / "up.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        cap(log)
        lines = log.open("a")
    except OSError as error:
        console.complain(f"cannot write in {settings.state_dir}: {error.strerror}")
        return EXIT_FAILED
    up = Up(
        settings,
        console=console,
        rooms=rooms or _rooms(settings, console),
        ready_timeout=ready_timeout,
    )
    each = settings.drain_timeout + 2 * _DRAIN_MARGIN
    with lines:
        configure_logging(settings, process="up", stream=lines)
        exit_code = run_until_signalled(up.run, drain_timeout=each * len(STOP_ORDER))
    if exit_code:
        console.complain(f"something went wrong, see {log}")
    return exit_code or up.exit_code


def _rooms(settings: Settings, console: Console) -> Mapping[str, tuple[str, ...]]:
    rooms = {room: room_command(room) for room in ROOMS}
    if is_wanted(settings) and not is_installed():
        console.complain("there is no brain: it comes with `pip install callsheet[brain]`")
        del rooms[BRAIN]
    return rooms


class Up:
    """One run of the plane; *exit_code* is final when `run` has returned."""

    def __init__(
        self,
        settings: Settings,
        *,
        console: Console,
        rooms: Mapping[str, tuple[str, ...]],
        ready_timeout: timedelta,
    ) -> None:
        self.exit_code = 0
        self._settings = settings
        self._console = console
        has_brain = BRAIN in rooms and is_wanted(settings)
        self._rooms = {r: command for r, command in rooms.items() if r != BRAIN or has_brain}
        self._ready_timeout = ready_timeout
        self._logs = settings.state_dir / "logs"
        self._folder = StateFolder(settings.state_dir)
        self._children: dict[str, Child] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Bring the plane up, keep it up until *stop*, and take it down in order."""
        try:
            await self._folder.take(
                timeout=self._settings.drain_timeout + _DRAIN_MARGIN,
                waiting=lambda: self._console.say("waiting for an earlier start to end"),
            )
        except StateFolderTaken as taken:
            self._fail(str(taken))
            return
        try:
            await self._run_in_folder(stop)
        finally:
            self._folder.release()

    async def _run_in_folder(self, stop: asyncio.Event) -> None:
        supervisor = Supervisor(report=self._report)
        try:
            await self._until_stopped(supervisor, stop)
        finally:
            self._console.say("stopping")
            forget_addresses(self._settings.state_dir)
            await supervisor.stop(STOP_ORDER)

    async def _until_stopped(self, supervisor: Supervisor, stop: asyncio.Event) -> None:
        coming_up = asyncio.create_task(self._come_up(supervisor))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({coming_up, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not coming_up.done():
            coming_up.cancel()
            await asyncio.wait({coming_up})
            return
        try:
            readiness = coming_up.result()
        except _REFUSALS as refusal:
            stopped.cancel()
            self._fail(str(refusal))
            return
        noted = dict(readiness.settings)
        if self._settings.brain_ws_url is not None:
            del noted["brain_ws_url"]  # another's: the token that is kept here is not for it
        note_addresses(self._settings.state_dir, noted)
        self._console.announce(readiness)
        announce_ready()
        await stopped

    async def _come_up(self, supervisor: Supervisor) -> Readiness:
        self._console.say(f"callsheet starts in {self._settings.state_dir}")
        address = free_address(self._settings.grpc_address)
        addresses = GatewayAddresses()
        if GATEWAY in self._rooms:
            addresses = gateway_addresses(self._settings)
        brain: Mapping[str, str] = {}
        if BRAIN in self._rooms:
            brain = brain_environment(self._settings)
        url = self._settings.redis_url or await self._start_valkey(supervisor)
        key = await self._prepare_redis(url)
        environment = {
            **os.environ,
            "REDIS_URL": url,
            "CALLSHEET_STATE_DIR": str(self._settings.state_dir),
            "CALLSHEET_GRPC_ADDRESS": address,
            **brain,
        }
        own = {GATEWAY: gateway_environment(self._settings, addresses, key=key)}
        for room, command in self._rooms.items():
            told = {**environment, **own.get(room, {})}
            self._children[room] = supervisor.start(self._plan(room, command, told, address))
        late = await self._wait_for_rooms()
        return Readiness(
            grpc_address=address,
            redis_url=url,
            key=key,
            projects=DEVELOPMENT_PROJECTS if key is not None else (),
            state_dir=self._settings.state_dir,
            artifacts_url=self._settings.artifacts_url,
            brain_ws_url=brain.get("BRAIN_WS_URL", self._settings.brain_ws_url),
            addresses=addresses,
            pid=os.getpid(),
            processes={status.name: status.pid for status in supervisor.statuses},
            late=late,
        )

    async def _start_valkey(self, supervisor: Supervisor) -> str:
        # With a limit, submissions are refused in time; without one the kernel would decide.
        limit = psutil.virtual_memory().total // 2
        valkey = EmbeddedValkey(self._settings.state_dir / VALKEY, max_memory_bytes=limit)
        deadline = Deadline(_LOAD_TIMEOUT)
        while not valkey.take_folder():
            # A command such as `callsheetd keys` may just be using it.
            if deadline.is_over():
                raise ValkeyUnavailable("another process keeps the embedded Valkey to itself")
            await asyncio.sleep(0.05)

        async def probe() -> bool:
            return await asyncio.to_thread(valkey.answers)

        plan = ChildPlan(
            name=VALKEY,
            command=valkey.command,
            environment=os.environ,
            log=self._log_of(VALKEY),
            drain_timeout=_DRAIN_MARGIN,
            inherited=(*valkey.inherited, self._folder.lock),
            probe=probe,
        )
        child = self._children[VALKEY] = supervisor.start(plan)
        if not await child.wait_ready(timeout=_LOAD_TIMEOUT):
            raise self._not_started(VALKEY)
        return valkey.url

    async def _prepare_redis(self, url: str) -> str | None:
        redis = connect(url, max_connections=1, client_name="up")
        try:
            for complaint in await check_ledger_server(redis):
                self._console.complain(f"Redis may lose tasks: {complaint}")
            return await development_key(self._settings, redis)
        except RedisError as error:
            raise UpFailed(f"{without_password(url)} does not answer: {error}") from error
        finally:
            await redis.aclose()

    def _plan(
        self, room: str, command: tuple[str, ...], environment: Mapping[str, str], address: str
    ) -> ChildPlan:
        async def probe() -> bool:
            return await answers_at(address)

        return ChildPlan(
            name=room,
            command=command,
            environment=environment,
            log=self._log_of(room),
            drain_timeout=self._settings.drain_timeout + _DRAIN_MARGIN,
            inherited=(self._folder.lock,),
            probe=probe if room == CONTROL else None,
        )

    async def _wait_for_rooms(self) -> tuple[str, ...]:
        """Return the rooms that run but have not said that they are ready."""
        waits = {
            room: asyncio.create_task(self._children[room].wait_ready(timeout=self._ready_timeout))
            for room in self._rooms
        }
        try:
            for coming in asyncio.as_completed(waits.values()):
                await coming
                self._refuse_crash_loops()
        finally:
            for wait in waits.values():
                wait.cancel()
        late = tuple(room for room, wait in waits.items() if not wait.result())
        if CONTROL in late:
            raise self._not_started(CONTROL)
        return late

    def _refuse_crash_loops(self) -> None:
        for room in self._rooms:
            if self._children[room].crash_loops:
                raise self._not_started(room)

    def _not_started(self, name: str) -> UpFailed:
        log = self._log_of(name)
        return UpFailed(f"{name} does not start: {last_words(log)}; see {log}")

    def _log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _report(self, report: ChildReport) -> None:
        _log.info(
            f"process_{report.fact}",
            child=report.name,
            pid=report.pid,
            exit_code=report.exit_code,
            wait_seconds=report.wait.total_seconds() if report.wait is not None else None,
        )
        self._console.report(report, log=self._log_of(report.name))

    def _fail(self, complaint: str) -> None:
        self._console.complain(complaint)
        self.exit_code = EXIT_FAILED


_REFUSALS: Final = (
    UpFailed,
    AddressTaken,
    EngineUnfit,
    ValkeyUnavailable,
    RedisUnfit,
    SecretUnusable,
    LedgerError,
)
