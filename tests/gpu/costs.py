"""What single parts of a rendering cost: each checkpoint, and each preview."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from callsheet.runner.preview_pictures import webp_of
from callsheet.runner.rendering import CheckpointSlot, Pixels, PreviewSink
from callsheet.v1.task_pb2 import ProgressPhase

Clock = Callable[[], float]
"""Tells seconds, once the device has done all it was given."""


@dataclass
class TimedSlot:
    """A CheckpointSlot that wants a state behind every step, and times how long one takes."""

    clock: Clock
    seconds: list[float] = field(default_factory=list[float])
    size_bytes: int = 0
    content: bytes | None = None
    """The state that is gone on from."""
    _asked: float = 0.0

    def load(self) -> bytes | None:
        """Return the state that is gone on from."""
        return self.content

    def is_due(self) -> bool:
        """Want one; its time counts from here."""
        self._asked = self.clock()
        return True

    def save(self, content: bytes, *, step: int, of: int) -> None:
        """Count the time until here: the state is bytes, and the steps go on."""
        self.seconds.append(self.clock() - self._asked)
        self.size_bytes = len(content)

    def resumed(self, step: int, *, of: int) -> None:
        """Nothing is measured of it."""

    def refuse(self, reason: str) -> None:
        """Raise ValueError: the state is of this very rendering."""
        raise ValueError(reason)


@dataclass
class TimedSink:
    """A PreviewSink that wants a picture behind every step, and times how long one takes."""

    clock: Clock
    seconds: list[float] = field(default_factory=list[float])
    encode_seconds: list[float] = field(default_factory=list[float])
    size_bytes: int = 0
    _asked: float = 0.0

    @property
    def every_steps(self) -> int:
        """One: its time counts from the question."""
        self._asked = self.clock()
        return 1

    def show(self, pictures: tuple[Pixels, ...], *, step: int, of: int) -> None:
        """Count the time until here, and apart from it that of its encoding."""
        shown = self.clock()
        self.seconds.append(shown - self._asked)
        content, _, _ = webp_of(pictures)
        self.encode_seconds.append(self.clock() - shown)
        self.size_bytes = len(content)


@dataclass
class CostControls:
    """RenderControls that let a rendering be, but for what is timed."""

    checkpoints: CheckpointSlot | None = None
    previews: PreviewSink | None = None

    def check(self) -> None:
        """Never stop."""

    def on_step(self, step: int, of: int) -> None:
        """Tell nobody."""

    def remark(self, remark: str) -> None:
        """Do nothing."""

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Count nothing."""


def milliseconds(seconds: list[float]) -> float:
    """Return the median."""
    return round(median(seconds) * 1000, 3)
