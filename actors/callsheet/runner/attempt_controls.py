"""What one rendering of an attempt tells and asks: its RenderControls."""

from collections.abc import Callable

from callsheet.runner.checkpoints import AttemptCheckpoints
from callsheet.runner.rendering import CheckpointSlot, PreviewSink, Words
from callsheet.v1.task_pb2 import ProgressPhase


class AttemptControls:
    """The RenderControls of one rendering."""

    def __init__(
        self,
        *,
        check: Callable[[], None],
        report: Callable[[int, int, str], None],
        enter: Callable[[ProgressPhase.ValueType], None],
        checkpoints: AttemptCheckpoints,
        part: int,
        previews: PreviewSink | None,
        words: Words,
    ) -> None:
        self._check = check
        self._enter = enter
        self._report = report
        self._slot = checkpoints.slot(part, say=self.remark)
        self._previews = previews
        self._words = words
        self._remark = ""

    @property
    def checkpoints(self) -> CheckpointSlot | None:
        """Where states are kept."""
        return self._slot

    @property
    def previews(self) -> PreviewSink | None:
        """Who wants pictures on the way."""
        return self._previews

    def check(self) -> None:
        """Raise TaskStopped when the attempt must stop."""
        self._check()

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Count the time from now on as that phase's."""
        self._enter(phase)

    def on_step(self, step: int, of: int) -> None:
        """Report the step; with the first one, what is to be known of a checkpoint."""
        words, self._remark = self._words(step, of) + self._remark, ""
        self._report(step, of, words)

    def remark(self, remark: str) -> None:
        """Tell it with the next step, behind what is told already."""
        self._remark += f" ({remark})"
