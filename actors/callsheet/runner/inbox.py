"""What the worker sends, taken by a thread of its own so that a stop is heard during inference."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from callsheet.internal.v1.pipe_pb2 import RunAttempt, ToRunner
from callsheet.runner.frames import FrameSocket, PipeBroken


@dataclass(frozen=True)
class TakenAttempt:
    """An attempt the worker sent."""

    run: RunAttempt
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the worker asks it to stop."""


class Inbox:
    """Receives frames from the worker; the inference thread takes attempts out one by one."""

    def __init__(self, pipe: FrameSocket, *, on_gone: Callable[[str], None]) -> None:
        """on_gone is called, in the receiving thread, with the reason why nothing more comes."""
        self._pipe = pipe
        self._on_gone = on_gone
        self._attempts: queue.Queue[TakenAttempt] = queue.Queue(maxsize=1)
        self._current: TakenAttempt | None = None
        self._thread = threading.Thread(target=self._receive, name="inbox", daemon=True)

    def start(self) -> None:
        """Start to receive."""
        self._thread.start()

    def next(self) -> TakenAttempt:
        """Return the next attempt, when there is one; ended only with the process."""
        return self._attempts.get()

    def finish(self) -> None:
        """Say that the attempt taken last has ended: call it before the worker is told."""
        self._current = None

    def _receive(self) -> None:
        try:
            while True:
                self._accept(self._pipe.receive(ToRunner))
        except PipeBroken as error:
            self._on_gone(str(error))

    def _accept(self, frame: ToRunner) -> None:
        match frame.WhichOneof("frame"):
            case "run":
                if self._current is not None:
                    raise PipeBroken("an attempt was sent while another one runs")
                self._current = TakenAttempt(frame.run)
                self._attempts.put_nowait(self._current)
            case "stop":
                current = self._current
                if current is not None and current.run.task_id == frame.stop.task_id:
                    current.stop.set()
            case None:
                return  # a frame of a newer worker, of no use to this runner
