"""The embedded brain in tests: as a process that may be killed, and its events as they come in."""

import os
import secrets
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, cast

from callsheet.brain.brain import Brain
from callsheet.brain.records import EventName, Status, TaskEventWrite
from callsheet.brain.transport import Dialling
from callsheet.embedded.brain.messages import TaskEventWrite as Event
from callsheet.runtime.lifecycle import READY_LINE, READY_VARIABLE
from tests.support.brains import SOON, fact

SECONDS: Final = 60.0
TOKEN: Final = secrets.token_urlsafe(32)

STATUS_AFTER: Final[dict[EventName, Status]] = {
    "submitted": "queued",
    "started": "processing",
    "retrying": "queued",
    "returned": "queued",
    "cancel_requested": "processing",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "media_registered": "completed",
    "context_retrieved": "processing",
}


class EmbeddedBrain:
    """One `python -m callsheet.embedded.brain` in a state folder, on a port of its own."""

    def __init__(self, state_dir: Path, **variables: str) -> None:
        self.state_dir = state_dir
        self.port = _free_port()
        self.environment = {
            **os.environ,
            "CALLSHEET_STATE_DIR": str(state_dir),
            "CALLSHEET_BRAIN_ADDRESS": f"127.0.0.1:{self.port}",
            "CALLSHEET_BRAIN_TOKEN": TOKEN,
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where MCP is spoken."""
        return f"ws://127.0.0.1:{self.port}/mcp"

    @property
    def http_url(self) -> str:
        """Where plain requests are answered."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "EmbeddedBrain":
        """Start it; return when it says that it is ready."""
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "callsheet.embedded.brain"],
            env={**self.environment, READY_VARIABLE: str(writing)},
            pass_fds=[writing],
        )
        os.close(writing)
        with selectors.DefaultSelector() as selector, os.fdopen(reading, "rb") as pipe:
            selector.register(pipe, selectors.EVENT_READ)
            assert selector.select(SECONDS), "the brain is not ready in time"
            assert pipe.readline() == READY_LINE, "the brain ended before it was ready"
        return self

    def client(self) -> Brain:
        """Return a client, to be entered, as patient as those of the plane."""
        return client(self.url, token=TOKEN)

    def kill(self) -> None:
        """Send SIGKILL, and return when it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(SECONDS)


def client(url: str, *, token: str) -> Brain:
    """Return a client of an embedded brain, as patient as those of the plane."""
    return Brain(Dialling(url=url, token=token), jitter=lambda: 0.2, time_limit=SOON)


def told(task_id: str, sequence: int, event: EventName, **more: Any) -> TaskEventWrite:  # noqa: ANN401  # any of the event's fields
    """Return an event as a client sends it."""
    written: Any = fact(task_id, sequence, event, status=STATUS_AFTER[event])
    if event != "submitted":
        del written["text"]
    return cast("TaskEventWrite", {**written, **more})


def heard(task_id: str, sequence: int, event: EventName, **more: Any) -> Event:  # noqa: ANN401  # any of the event's fields
    """Return an event as the brain takes it in."""
    return Event.model_validate(told(task_id, sequence, event, **more))


def story(task_id: str, **more: Any) -> list[TaskEventWrite]:  # noqa: ANN401  # of the submission
    """Return a whole task: asked for, tried in vain, tried again, done."""
    artifact = {
        "uri": f"file:///projects/default/{task_id}.png",
        "sha256": "0" * 64,
        "media_type": "image/png",
        "size_bytes": 1000,
    }
    failure = {"reason": "OUT_OF_MEMORY", "message": "no room", "retryable": True}
    worker = {"worker": "host-1", "device": "cuda:0"}
    project = {"project": more["project"]} if "project" in more else {}
    return [
        told(task_id, 1, "submitted", spec={"prompt": "a cat"}, **more),
        told(task_id, 2, "started", attempt=1, **worker, **project),
        told(task_id, 3, "retrying", attempt=1, failure=failure, **project),
        told(task_id, 4, "started", attempt=2, **worker, **project),
        told(
            task_id,
            5,
            "succeeded",
            attempt=2,
            output={"images": [artifact]},
            artifacts=[artifact],
            model={"name": "sdxl", "revision": "4621"},
            quality={"measure": "image-v1", "score": 0.75, "parts": {"sharpness": 0.5}},
            usage={"gpu_seconds": 1.5},
            **project,
        ),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
