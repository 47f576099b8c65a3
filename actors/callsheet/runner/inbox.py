"""What the worker sends, taken by a thread of its own so that a stop is heard during inference."""

import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from callsheet.internal.v1.pipe_pb2 import RunAttempt, ToRunner
from callsheet.runner.context import TaskStopped
from callsheet.runner.frames import FrameSocket, PipeBroken


@dataclass(frozen=True)
class TakenAttempt:
    """An attempt the worker sent."""

    run: RunAttempt
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the worker asks it to stop."""

    def check(self) -> None:
        """Raise TaskStopped when the worker has asked it to stop."""
        if self.stop.is_set():
            raise TaskStopped


class Inbox:
    """Receives frames from the worker; the inference thread takes attempts out as they were sent.

    What is taken at once is to be run together.
    """

    def __init__(self, pipe: FrameSocket, *, on_gone: Callable[[str], None]) -> None:
        """on_gone is called, in the receiving thread, with the reason why nothing more comes."""
        self._pipe = pipe
        self._on_gone = on_gone
        self._sent: queue.Queue[tuple[TakenAttempt, ...]] = queue.Queue(maxsize=1)
        self._current: Mapping[str, TakenAttempt] = MappingProxyType({})
        self._thread = threading.Thread(target=self._receive, name="inbox", daemon=True)

    def start(self) -> None:
        """Start to receive."""
        self._thread.start()

    def next(self) -> tuple[TakenAttempt, ...]:
        """Return what was sent next, when there is something; ended only with the process."""
        return self._sent.get()

    def finish(self) -> None:
        """Say that all that was taken last has ended: call it before the worker is told."""
        self._current = MappingProxyType({})

    def _receive(self) -> None:
        try:
            while True:
                self._accept(self._pipe.receive(ToRunner))
        except PipeBroken as error:
            self._on_gone(str(error))

    def _accept(self, frame: ToRunner) -> None:
        match frame.WhichOneof("frame"):
            case "run":
                self._take([frame.run])
            case "batch":
                self._take(frame.batch.attempts)
            case "stop":
                current = self._current.get(frame.stop.task_id)
                if current is not None:
                    current.stop.set()
            case None:
                return  # a frame of a newer worker, of no use to this runner

    def _take(self, runs: Iterable[RunAttempt]) -> None:
        if self._current:
            raise PipeBroken("an attempt was sent while another one runs")
        taken = {run.task_id: TakenAttempt(run) for run in runs}
        if not taken:
            return
        self._current = taken
        self._sent.put_nowait(tuple(taken.values()))
