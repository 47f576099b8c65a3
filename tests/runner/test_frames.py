"""Frames between worker and runner, over a real pair of sockets."""

import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest

from callsheet.internal.v1.pipe_pb2 import (
    FromRunner,
    RunAttempt,
    RunnerReady,
    StopAttempt,
    ToRunner,
)
from callsheet.runner.frames import (
    HEADER,
    MAX_FRAME_BYTES,
    FrameSocket,
    PipeBroken,
    body_length,
    decode,
    encode,
)

SOON = timedelta(milliseconds=20)


class Pipe:
    """A pair of sockets: the worker's end raw, the runner's framed."""

    def __init__(self) -> None:
        self.worker, self._end = socket.socketpair()
        self.parent_is_there = True
        self.runner = FrameSocket(
            self._end, send_timeout=SOON, poll=SOON, still_there=lambda: self.parent_is_there
        )

    def close(self) -> None:
        self.runner.close()
        self._end.close()
        self.worker.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that nobody has used yet."""
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_a_message_survives_its_frame() -> None:
    message = ToRunner(stop=StopAttempt(task_id="a"))
    frame = encode(message)
    assert body_length(frame[: HEADER.size]) == len(frame) - HEADER.size
    assert decode(frame[HEADER.size :], ToRunner) == message


def test_a_frame_beyond_the_limit_is_neither_sent_nor_taken() -> None:
    with pytest.raises(PipeBroken, match="is more than 16777216"):
        encode(ToRunner(run=RunAttempt(task_id="a" * MAX_FRAME_BYTES)))
    with pytest.raises(PipeBroken, match="is more than 16777216"):
        body_length(HEADER.pack(MAX_FRAME_BYTES + 1))


def test_bytes_that_are_no_message_are_no_frame() -> None:
    with pytest.raises(PipeBroken, match="a frame is no ToRunner"):
        decode(b"\xff\xff\xff", ToRunner)


def test_frames_arrive_whole_however_they_are_cut(pipe: Pipe) -> None:
    messages = [ToRunner(stop=StopAttempt(task_id=name)) for name in ("a", "b" * 30)]
    for byte in b"".join(encode(message) for message in messages):
        pipe.worker.send(bytes([byte]))
    assert [pipe.runner.receive(ToRunner) for _ in messages] == messages


def test_an_empty_message_is_a_frame(pipe: Pipe) -> None:
    pipe.worker.sendall(encode(ToRunner()))
    assert pipe.runner.receive(ToRunner) == ToRunner()


def test_what_is_sent_is_a_frame(pipe: Pipe) -> None:
    message = FromRunner(ready=RunnerReady(device="cpu"))
    pipe.runner.send(message)
    assert pipe.worker.recv(1000) == encode(message)


def test_the_end_of_the_other_side_breaks_the_pipe(pipe: Pipe) -> None:
    pipe.worker.sendall(encode(ToRunner(stop=StopAttempt(task_id="a")))[:-1])
    pipe.worker.close()
    with pytest.raises(PipeBroken, match="the other side closed the pipe"):
        pipe.runner.receive(ToRunner)
    with pytest.raises(PipeBroken, match="nobody takes what is sent"):
        pipe.runner.send(FromRunner())


def test_a_parent_that_is_gone_breaks_a_silent_pipe(pipe: Pipe) -> None:
    """Some other process may still hold the other end open."""
    pipe.parent_is_there = False
    with pytest.raises(PipeBroken, match="the parent process is gone"):
        pipe.runner.receive(ToRunner)


def test_a_worker_that_takes_nothing_breaks_the_pipe(pipe: Pipe) -> None:
    """What is sent here is more than the kernel keeps for a socket."""
    with pytest.raises(PipeBroken, match="nobody takes what is sent"):
        pipe.runner.send(FromRunner(ready=RunnerReady(device="x" * 8_000_000)))


def test_a_closed_pipe_is_heard_at_once(pipe: Pipe) -> None:
    pipe.runner.close()
    assert pipe.worker.recv(1) == b""
