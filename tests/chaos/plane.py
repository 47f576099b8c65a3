"""The plane under chaos: real processes as `callsheetd up` runs them, each link through a proxy."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import libfaketime
import psutil
from redis.asyncio import Redis

from callsheet.embedded.backoff import Backoff
from callsheet.embedded.child import Child, ChildFact, ChildPlan, ChildReport
from callsheet.embedded.supervisor import Supervisor
from callsheet.embedded.up import room_command
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.keys import create_key
from callsheet.runtime.redis import connect
from callsheet.runtime.secrets import webhook_secret
from tests.chaos import topology
from tests.chaos.history import HistoryWriter, ProcessEnded, ProcessStarted
from tests.chaos.proxy import GRPC, HTTP, REDIS, WEBSOCKET, Link, Speech, Upstream
from tests.chaos.topology import BRAIN, PROCESSES, VALKEY, role_of
from tests.chaos.work import PROCESS_VARIABLE, RUN_VARIABLE
from tests.chaos.worker import CLOCK_VARIABLE
from tests.support.planes import free_address

CELL: Final = "chaos"
PROJECTS: Final = ("alpha", "beta")
LEASE: Final = timedelta(seconds=4)
#: As a supervisor of production has it, but that what we kill again and again is no crash loop.
BACKOFF: Final = Backoff(longest=timedelta(seconds=2), steady=timedelta(seconds=1), crash_loop=99)
_READY: Final = timedelta(seconds=120)
_DRAIN: Final = timedelta(seconds=20)
_ROOT: Final = Path(__file__).parents[2]
_MASTER_KEY: Final = secrets.token_urlsafe(32)
_TOKEN: Final = secrets.token_urlsafe(32)
_SPEECHES: Final[Mapping[str, Speech]] = {
    "valkey": REDIS, "control": GRPC, "brain": WEBSOCKET, "receiver": HTTP,
}  # fmt: skip
_ENDINGS: Final = frozenset({ChildFact.EXITED, ChildFact.CRASH_LOOPED, ChildFact.STOPPED})
_FAKETIME: Final = (
    Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
)


@dataclass
class Plane:
    """A running plane. What it does is faulty on purpose; what it tells is not."""

    folder: Path
    history: HistoryWriter
    valkey: EmbeddedValkey
    #: Straight to the server, past all proxies.
    redis: Redis
    supervisor: Supervisor = field(init=False)
    children: dict[str, Child] = field(default_factory=dict[str, Child])
    links: dict[str, Link] = field(default_factory=dict[str, Link])
    addresses: dict[str, str] = field(default_factory=dict[str, str])
    #: The API key of each project.
    keys: dict[str, str] = field(default_factory=dict[str, str])
    _pulse: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(report=self._heard, backoff=BACKOFF)

    @property
    def artifacts(self) -> Path:
        """Where artifacts are written."""
        return self.folder / "artifacts"

    @property
    def master_key(self) -> bytes:
        """What the secrets of webhooks are derived from."""
        return _MASTER_KEY.encode()

    @property
    def brain_folder(self) -> Path:
        """The state of the brain."""
        return self.state_of(BRAIN)

    def state_of(self, process: str) -> Path:
        """Return the state folder of a process; each has its own, as on machines of their own."""
        return self.folder / "state" / process

    def hook(self, receiver: str) -> str:
        """Return the URL at which a receiver is told."""
        return f"http://127.0.0.1:{self.links[f'{topology.COURIER}>{receiver}'].port}/hook"

    def pid(self, process: str) -> int | None:
        """Return the process id, None while it does not run."""
        return self.children[process].status.pid

    def runner(self, worker: str) -> psutil.Process | None:
        """Return the runner of a worker, None while there is none."""
        pid = self.pid(worker)
        try:
            found = psutil.Process(pid).children() if pid is not None else []
        except psutil.NoSuchProcess:
            return None
        return found[0] if found else None

    def _heard(self, report: ChildReport) -> None:
        """Write down what the supervisor tells."""
        now, pid = time.monotonic(), report.pid or 0
        if report.fact is ChildFact.STARTED:
            self.history.write(ProcessStarted(at=now, process=report.name, pid=pid))
        elif report.fact in _ENDINGS:
            status = report.exit_code if report.exit_code is not None else 0
            self.history.write(ProcessEnded(at=now, process=report.name, pid=pid, status=status))
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def until(self, is_so: Callable[[], bool], *, within: timedelta) -> None:
        """Return when it is so, looking whenever the supervisor tells something.

        Raises TimeoutError.
        """
        async with asyncio.timeout(within.total_seconds()):
            while not is_so():
                await self._pulse.wait()

    async def ready(self, process: str, *, within: timedelta = _READY) -> None:
        """Return when a process is ready. Raises TimeoutError."""
        if not await self.children[process].wait_ready(timeout=within):
            raise TimeoutError(f"{process} is not ready, see {self.folder / 'logs'}")


@asynccontextmanager
async def chaotic_plane(folder: Path) -> AsyncGenerator[Plane]:
    """Bring a plane up in the folder, and take it down at the end."""
    valkey = EmbeddedValkey(folder / "state" / VALKEY)
    if not valkey.take_folder():
        raise RuntimeError(f"another run has {folder}")
    redis = connect(valkey.url, max_connections=8, client_name="chaos")
    history = HistoryWriter(folder, "supervisor")
    plane = Plane(folder, history, valkey, redis)
    try:
        await _come_up(plane)
        yield plane
    finally:
        await asyncio.gather(*(c.stop() for p, c in plane.children.items() if p != VALKEY))
        await plane.supervisor.stop(())
        for link in plane.links.values():
            await link.close()
        await redis.aclose()
        valkey.release_folder()
        history.close()


async def _come_up(plane: Plane) -> None:
    (plane.folder / "logs").mkdir()
    plane.artifacts.mkdir(exist_ok=True)
    for process in PROCESSES:
        plane.state_of(process).mkdir(parents=True, exist_ok=True)
        plane.addresses[process] = free_address()
    for name in topology.link_names():
        server = topology.server_of(name)
        link = Link(name, _upstream(plane, server), _SPEECHES[role_of(server)])
        await link.listen()
        plane.links[name] = link
    _start(plane, VALKEY)
    await plane.ready(VALKEY)
    for project in PROJECTS:
        _, plane.keys[project] = await create_key(
            plane.redis,
            cell=CELL,
            projects=frozenset({project}),
            roles=frozenset({"submit", "read"}),
        )
    others = [process for process in PROCESSES if process != VALKEY]
    for process in others:
        _start(plane, process)
    await asyncio.gather(*(plane.ready(process) for process in others))


def _upstream(plane: Plane, server: str) -> Upstream:
    if server == VALKEY:
        return plane.state_of(VALKEY) / "valkey.sock"
    return int(plane.addresses[server].rpartition(":")[2])


def _start(plane: Plane, process: str) -> None:
    async def probe() -> bool:
        return await asyncio.to_thread(plane.valkey.answers)

    is_valkey = process == VALKEY
    plan = ChildPlan(
        name=process,
        command=plane.valkey.command if is_valkey else _command(plane, process),
        environment={**os.environ, **_environment(plane, process)},
        log=plane.folder / "logs" / f"{process}.log",
        drain_timeout=_DRAIN,
        inherited=plane.valkey.inherited if is_valkey else (),
        probe=probe if is_valkey else None,
    )
    plane.children[process] = plane.supervisor.start(plan)


def _command(plane: Plane, process: str) -> tuple[str, ...]:
    match role_of(process):
        case "worker":
            return (sys.executable, "-m", "tests.chaos.worker")
        case "receiver":
            port = plane.addresses[process].rpartition(":")[2]
            known = {each: webhook_secret(plane.master_key, each, 1) for each in PROJECTS}
            command = (sys.executable, "-m", "tests.chaos.receiver", process, port)
            return (*command, str(plane.folder), json.dumps(known))
        case role:
            return room_command(role)


def _environment(plane: Plane, process: str) -> Mapping[str, str]:
    search = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(_ROOT))))
    environment = {
        "PYTHONPATH": search,
        "CALLSHEET_CELL": CELL,
        "CALLSHEET_STATE_DIR": str(plane.state_of(process)),
        "CALLSHEET_ARTIFACTS_URL": plane.artifacts.as_uri(),
        "CALLSHEET_GRPC_ADDRESS": plane.addresses[process],
        "CALLSHEET_DEVICE": "cpu",
        "CALLSHEET_WORKER_SLOTS": "8",
        "CALLSHEET_LEASE_SECONDS": str(LEASE.total_seconds()),
        "CALLSHEET_DRAIN_SECONDS": "5",
        "CALLSHEET_RETRY_SECONDS": "gpu=2",
        "CALLSHEET_WEBHOOK_MASTER_KEY": _MASTER_KEY,
        "CALLSHEET_WEBHOOK_TIME_LIMIT_SECONDS": "2",
        "CALLSHEET_WEBHOOK_RETRY_SECONDS": "0.5,1,1,2,2,3,3,3,3,3,3,3,3,3,3,3",
        "CALLSHEET_BRAIN_ADDRESS": plane.addresses[BRAIN],
        "CALLSHEET_BRAIN_TOKEN": _TOKEN,
        "CALLSHEET_BRAIN_TIME_LIMIT_SECONDS": "3",
    }
    for link in plane.links.values():
        client, _, server = link.name.partition(">")
        if client == process and server == VALKEY:
            environment["REDIS_URL"] = f"redis://127.0.0.1:{link.port}/0"
        elif client == process and server == BRAIN:
            environment["BRAIN_WS_URL"] = f"ws://127.0.0.1:{link.port}/mcp"
    if role_of(process) == "worker":
        environment |= _worker_environment(plane, process)
    return environment


def _worker_environment(plane: Plane, process: str) -> Mapping[str, str]:
    """A worker writes down what it runs, and its wall clock is ours to set."""
    clock = clock_of(plane, process)
    clock.write_text("+0")
    return {
        RUN_VARIABLE: str(plane.folder),
        PROCESS_VARIABLE: process,
        CLOCK_VARIABLE: str(clock_seen_of(plane, process)),
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        # It would make the waits of threads for the interpreter end at once, and burn a core.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def clock_of(plane: Plane, worker: str) -> Path:
    """Return the file that says how wrong a worker's wall clock is."""
    return plane.state_of(worker) / "clock"


def clock_seen_of(plane: Plane, worker: str) -> Path:
    """Return the file in which a worker says how far its wall clock has jumped, in minutes."""
    return plane.state_of(worker) / "clock-seen"
