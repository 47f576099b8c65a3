"""The embedded Valkey: a real server of this machine alone, that loses nothing it acknowledged.

It listens on a unix socket in its folder and on nothing else. The folder has one owner, kept by a
lock that the server itself inherits, so that it is held for as long as anybody writes there.
"""

import contextlib
import fcntl
import hashlib
import os
import socket
import subprocess
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

from callsheet.embedded.deadline import Deadline
from callsheet.embedded.engine import Engine, claim_folder, find_engine
from callsheet.embedded.parentage import CHILDREN_END_WITH_PARENT, ends_with_parent

AppendFsync = Literal["always", "everysec", "no"]

#: A path in sockaddr_un has 108 bytes; what is longer gets a short one elsewhere.
LONGEST_SOCKET_PATH: Final = 100

LOG_FILE: Final = "valkey.log"

_START_TIMEOUT: Final = timedelta(seconds=60)
_STOP_TIMEOUT: Final = timedelta(seconds=10)
_PAUSE: Final = timedelta(milliseconds=10)
_PING: Final = b"*1\r\n$4\r\nPING\r\n"


class ValkeyUnavailable(Exception):
    """The server did not start, or its folder is in other hands."""


class EmbeddedValkey:
    """A Valkey whose home is *folder*: started here, or joined when another process runs it.

    *appendfsync* is "always" wherever tasks matter; benchmarks may ask for less.
    *max_memory_bytes* of None means no limit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        appendfsync: AppendFsync = "always",
        max_memory_bytes: int | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._appendfsync = appendfsync
        self._max_memory_bytes = max_memory_bytes
        self._socket = _socket_path(self._folder)
        self._lock: int | None = None
        self._engine: Engine | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it, as a URL for redis-py."""
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int | None:
        """The process id of the server started here; None when it was joined, or not started."""
        return self._process.pid if self._process is not None else None

    def start(self, *, timeout: timedelta = _START_TIMEOUT) -> Literal["started", "joined"]:
        """Start the server, or join the one that runs in the folder; return when it answers.

        Raises EngineUnfit when the folder is another engine's, and ValkeyUnavailable when the
        server ends, or does not answer within *timeout*.
        """
        deadline = Deadline(timeout)
        while not self.take_folder():
            if answers(self._socket) and not self._is_orphaned():
                return "joined"
            _wait(deadline, f"{self._folder} is locked, but its server does not answer")
        try:
            self._launch(deadline)
        except BaseException:
            self.stop()
            raise
        return "started"

    def take_folder(self) -> bool:
        """Become the folder's owner, ready to run `command`; False when another process is.

        Raises EngineUnfit when the folder is another engine's.
        """
        if self._lock is not None:
            return True
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._engine = self._engine or find_engine()
            claim_folder(self._folder, self._engine)
        except BlockingIOError:
            os.close(lock)
            return False
        except BaseException:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        return True

    def release_folder(self) -> None:
        """Stop being the folder's owner; a server that still runs keeps it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def inherited(self) -> tuple[int, ...]:
        """The file descriptors that the server must inherit: the lock."""
        return () if self._lock is None else (self._lock,)

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of the server. The folder must have been taken."""
        if self._engine is None:
            raise ValkeyUnavailable(f"{self._folder} was not taken")
        # The listpack limits keep a task with its facts in one compact hash.
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "maxmemory": str(self._max_memory_bytes or 0),
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "4096",
            "hash-max-listpack-entries": "64",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return (str(self._engine.binary), *words)

    def answers(self) -> bool:
        """Whether a server answers on the socket, with its folder loaded."""
        return answers(self._socket)

    def stop(self, *, timeout: timedelta = _STOP_TIMEOUT) -> None:
        """Stop the server if it was started here; after *timeout* kill it, which loses nothing."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout.total_seconds())
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self.release_folder()

    def kill(self) -> None:
        """Kill the server without a warning, as a crash would."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, deadline: Deadline) -> None:
        log = self._folder / LOG_FILE
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for its parent, which stops it last
                preexec_fn=ends_with_parent(),  # noqa: PLW1509  # calls the kernel and nothing else
                pass_fds=self.inherited,
            )
        while not self.answers():
            if self._process.poll() is not None:
                raise ValkeyUnavailable(f"the embedded Valkey ended: {_last_line(log)}")
            _wait(deadline, f"the embedded Valkey does not answer, see {log}")

    def _is_orphaned(self) -> bool:
        """Whether the owner has ended, so that the server is about to end as well."""
        with contextlib.suppress(OSError, ValueError):
            owner = int((self._folder / "lock").read_text())
            try:
                os.kill(owner, 0)
            except ProcessLookupError:
                return CHILDREN_END_WITH_PARENT
            except PermissionError:
                return False
        return False


def answers(path: Path) -> bool:
    """Return whether a server that has loaded its folder answers on the unix socket."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(_PING)
            return client.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _socket_path(folder: Path) -> Path:
    path = folder / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return _private_folder() / f"{digest}.sock"


def _private_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"callsheet-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Its name can be guessed: another user may have made it first, to listen in our place.
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise ValkeyUnavailable(f"{folder} is not this user's alone")
    return folder


def _wait(deadline: Deadline, complaint: str) -> None:
    if deadline.is_over():
        raise ValkeyUnavailable(complaint)
    threading.Event().wait(_PAUSE.total_seconds())


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"see {log}"
