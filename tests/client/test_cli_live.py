"""Following a task with the command `callsheet`: live, interrupted, and into a pipe."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from callsheet.client.cli.exits import Exit
from callsheet.client.testing import (
    FakeTaskService,
    fail,
    hold,
    progress,
    running_fake,
    succeed,
)
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1 import task_pb2
from tests.client.shell import Shell, objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake() -> Iterator[FakeTaskService]:
    with running_fake() as service:
        yield service


@pytest.fixture
def shell(fake: FakeTaskService, tmp_path: Path) -> Shell:
    return Shell(tmp_path, CALLSHEET_GRPC_ADDRESS=fake.address, CALLSHEET_API_KEY=fake.key)


def test_submit_and_watch_tells_in_plain_lines_what_happens(
    fake: FakeTaskService, shell: Shell
) -> None:
    # Given a task that reports progress and cannot end before it was seen
    gate = hold()
    output = GenerateImageOutput(images=[Artifact(uri="file:///x.png")], seed=7)
    fake.script(
        GenerateImageInput, progress(3, total=4, message="denoising"), gate, succeed(output)
    )
    process = subprocess.Popen(
        shell.command("submit", "generate_image", "--prompt", "x", "--watch"),
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stdout is not None
        # When it is watched without a terminal
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "75 %, 3 of 4, denoising" in line:
                gate.release()
        # Then each fact and signal has its line, and the result stands alone on stdout
        assert process.stdout.read() == 'images {\n  uri: "file:///x.png"\n}\nseed: 7\n'
    assert process.returncode == 0
    assert [line.split(" ", 1)[1].strip() for line in lines[1:]] == [
        "submitted to queue gpu",
        "attempt 1 started on fake-worker (cpu)",
        "75 %, 3 of 4, denoising",
        "succeeded",
    ]
    assert "\x1b" not in "".join(lines)


def test_on_a_terminal_progress_is_a_bar(fake: FakeTaskService, shell: Shell) -> None:
    # Given a terminal on stderr
    gate = hold()
    fake.script(PingInput, progress(1, total=2, message="\x1b[2Jhalf"), gate)
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        shell.command("submit", "ping", "--watch"),
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    with process:
        while b"half" not in seen:
            seen += os.read(controller, 4096)
        gate.release()
        while b"succeeded" not in seen:
            seen += os.read(controller, 4096)
    os.close(controller)
    assert process.returncode == 0
    # Then progress is drawn over the line, and nobody else's control codes come through
    assert b"\r\x1b[K[###############---------------] 50 %, 1 of 2,  [2Jhalf" in seen


def test_watch_answers_one_event_a_line(fake: FakeTaskService, shell: Shell) -> None:
    fake.script(PingInput, fail(task_pb2.FAILURE_REASON_OUT_OF_MEMORY, message="9 GiB"))
    task_id = shell.ok("submit", "ping").strip()
    done = shell.run("watch", task_id, "--json", "--after-sequence", "1")
    started, failed = objects(done.stdout)
    assert done.returncode == Exit.TASK_FAILED
    assert started["attempt_started"]["attempt"] == 1
    assert failed["sequence"] == "3"
    assert failed["task_failed"]["failure"]["reason"] == "FAILURE_REASON_OUT_OF_MEMORY"


def test_a_task_that_takes_too_long_goes_on(fake: FakeTaskService, shell: Shell) -> None:
    fake.script(PingInput, hold())
    task_id = shell.ok("submit", "ping").strip()
    code, line = shell.refused("wait", task_id, "--timeout", "100ms")
    assert code == Exit.NOT_FINAL
    assert line == f"callsheet: task {task_id} was not final after 0.1 seconds\n"


def test_ctrl_c_leaves_the_task_running_and_says_so(fake: FakeTaskService, shell: Shell) -> None:
    # Given a running task that is being watched
    fake.script(PingInput, hold())
    process = subprocess.Popen(
        shell.command("submit", "ping", "--watch"),
        cwd=shell.folder,
        env=shell.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "attempt 1 started" in line:
                break
        # When its watcher is interrupted
        process.send_signal(signal.SIGINT)
        last = process.stderr.read()
    # Then only the watcher ends
    (task,) = fake.tasks
    assert process.returncode == Exit.INTERRUPTED
    assert last == f"callsheet: interrupted; task {task.id} goes on\n"
    assert task.state == task_pb2.TASK_STATE_RUNNING
    assert not task.cancel_requested


def test_a_reader_that_has_enough_ends_the_command_quietly(
    fake: FakeTaskService, shell: Shell
) -> None:
    shell.ok("submit", "ping")
    process = subprocess.Popen(
        shell.command("watch", fake.tasks[0].id, "--json"),
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
