"""The plane of a demo: brought up for it alone, and taken down after it."""

import json
import os
import signal
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, cast

from callsheet.embedded.module_command import module_command
from callsheet.embedded.parentage import ends_with_parent

_START: Final = timedelta(minutes=3)
_STOP: Final = timedelta(seconds=60)
_ASKED_SECONDS: Final = 60
#: What belongs to a plane that is not the demo's.
_FOREIGN: Final = frozenset(
    {"REDIS_URL", "SESSIONS_REDIS_URL", "CACHE_REDIS_URL"}
    | {"R2_PUBLIC_URL", "PAYLOAD_API_URL", "PAYLOAD_API_KEY"}
    | {"BRAIN_WS_URL", "BRAIN_HTTP_URL", "MCP_BRAIN_SERVICE_URL", "BRAIN_SERVICE_BASE_URL"}
)
#: Where it listens. Port 0: whichever is free.
_ADDRESSES: Final = (
    "CALLSHEET_GRPC_ADDRESS",
    "CALLSHEET_GATEWAY_ADDRESS",
    "CALLSHEET_HEALTH_ADDRESS",
    "CALLSHEET_DOCS_ADDRESS",
    "CALLSHEET_BRAIN_ADDRESS",
)


class DemoFailed(Exception):
    """A step did not do what it should."""


@dataclass(frozen=True)
class DemoPlane:
    """A plane that runs."""

    #: What it said of itself when it was ready.
    ready: Mapping[str, object]
    environment: Mapping[str, str]
    process: "subprocess.Popen[str]"

    @property
    def key(self) -> str:
        """Its development key."""
        return str(self.ready["key"])

    @property
    def grpc_address(self) -> str:
        """Where control listens."""
        return str(self.ready["grpc_address"])

    @property
    def worker_pid(self) -> int:
        """The process id of its worker, as it was when the plane was ready."""
        processes = cast("Mapping[str, int]", self.ready["processes"])
        return processes["worker"]

    @property
    def dashboard(self) -> str:
        """The URL of its dashboard and REST API."""
        return f"http://{self.ready['gateway_address']}"

    @property
    def health(self) -> str:
        """The URL of its health API."""
        return f"http://{self.ready['health_address']}/health"

    @property
    def state_dir(self) -> Path:
        """The folder of all it keeps."""
        return Path(str(self.ready["state_dir"]))

    def asked(self, *words: str) -> Mapping[str, Any]:
        """Return what `callsheetd` answers in it. Raises subprocess.SubprocessError."""
        done = subprocess.run(
            _command(*words, "--json"),
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=_ASKED_SECONDS,
        )
        return cast("dict[str, Any]", json.loads(done.stdout))

    def until_ended(self) -> None:
        """Wait for as long as it runs."""
        self.process.wait()


@contextmanager
def demo_plane(folder: Path, *, variables: Mapping[str, str]) -> Generator[DemoPlane]:
    """Bring a plane up in the folder, and take it down in order. Raises DemoFailed.

    *variables* are settings of it; nothing else of CALLSHEET_ in the environment is for it.
    """
    environment = _environment(folder, variables)
    print(
        "starting    embedded Valkey and brain, control, gateway, upkeep, worker, sidecar",
        flush=True,
    )
    with subprocess.Popen(
        _command("up", "--json"),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the demo, which takes the plane down once, and in order.
        process_group=0,
        preexec_fn=ends_with_parent(),  # noqa: PLW1509  # calls the kernel and nothing else
    ) as up:
        try:
            yield DemoPlane(_ready(up), environment, up)
        finally:
            up.send_signal(signal.SIGINT)
            try:
                up.wait(_STOP.total_seconds())
            except subprocess.TimeoutExpired:
                up.kill()


def _environment(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """A plane of the demo's own: another one on this machine stays as it is."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN and not name.startswith("CALLSHEET_")
    }
    own = {"CALLSHEET_STATE_DIR": str(folder), **dict.fromkeys(_ADDRESSES, "127.0.0.1:0")}
    return {**inherited, **variables, **own, "GRPC_VERBOSITY": "ERROR"}


def _command(*words: str) -> list[str]:
    return module_command("embedded.main", *words)


def _ready(up: "subprocess.Popen[str]") -> Mapping[str, object]:
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        lines.put(up.stdout.readline() if up.stdout is not None else "")

    Thread(target=read, daemon=True).start()
    try:
        line = lines.get(timeout=_START.total_seconds())
    except Empty:
        raise DemoFailed(f"the plane did not come up within {_START}") from None
    if not line:
        raise DemoFailed("the plane did not come up; its reason stands above")
    return cast("dict[str, object]", json.loads(line))
