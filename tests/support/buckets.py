"""A real S3 API on loopback, kept by moto, and buckets in it."""

import logging
import secrets
import selectors
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer

from callsheet.artifacts.access import S3Access

_SERVER: Final = Path(__file__).with_name("s3_server.py")
_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Bucket:
    """One bucket, and how it is reached."""

    name: str
    access: S3Access

    @property
    def url(self) -> str:
        """Return the URL of a prefix in it."""
        return f"s3://{self.name}/callsheet"

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings that say the same to a process."""
        return {
            "CALLSHEET_ARTIFACTS_URL": self.url,
            "CALLSHEET_S3_ENDPOINT": self.access.endpoint or "",
            "CALLSHEET_S3_ACCESS_KEY_ID": self.access.access_key_id or "",
            "CALLSHEET_S3_SECRET_ACCESS_KEY": self.access.secret_access_key or "",
            "CALLSHEET_S3_REGION": self.access.region or "",
        }


@contextmanager
def s3_endpoint() -> Generator[str]:
    """Run the server on a free port; yield its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line for each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class S3Process:
    """An S3 API in a process of its own, which may be killed; its buckets die with it."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port that it had before, and return when it answers."""
        command = [sys.executable, "-P", str(_SERVER), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(_SECONDS), "the S3 API is not ready in time"
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """Send SIGKILL, and return when it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def s3_process() -> Generator[S3Process]:
    """Run the process; it is killed at the end."""
    server = S3Process()
    server.start()
    try:
        yield server
    finally:
        server.kill()


def new_bucket(endpoint: str, *, name: str = "") -> Bucket:
    """Make an empty bucket, by default of a new name."""
    name = name or f"films-{secrets.token_hex(6)}"
    with urlopen(Request(f"{endpoint}/{name}", method="PUT"), timeout=30):  # noqa: S310  # our own server, on loopback
        return Bucket(name, S3Access(endpoint, "an-access-key", "a-secret-key", "auto"))
