"""What a followed task is doing, live on standard error: a bar on a terminal, else plain lines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from callsheet.client.cli.render import event_text, plain, progress_text, time_text
from callsheet.client.states import is_signal

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

    from callsheet.v1 import task_event_pb2, task_pb2

_BAR_WIDTH: Final = 30
_COLUMNS: Final = 80  # of a terminal that does not say
_CLEAR_LINE: Final = "\r\x1b[K"


class LiveView:
    """Shows the events of one task as they come."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._bar_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the last bar where it is, and begin a new line."""
        if self._bar_shown:
            self._write("\n")

    def show(self, event: task_event_pb2.TaskEvent) -> None:
        """Show one event: progress in place of the bar before, a fact on a line of its own."""
        if is_signal(event) and self._is_terminal:
            self._write(_CLEAR_LINE + bar(event.progress)[: self._columns() - 1])
            self._bar_shown = True
            return
        if self._bar_shown:
            self._write("\n")
            self._bar_shown = False
        self._write(f"{time_text(event.time)[11:]} {plain(event_text(event))}\n")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def bar(progress: task_pb2.Progress) -> str:
    """Return progress as a bar; without a known end, as words only."""
    words = plain(progress_text(progress))
    if not progress.total:
        return words
    filled = round(_BAR_WIDTH * min(progress.current / progress.total, 1))
    return f"[{'#' * filled}{'-' * (_BAR_WIDTH - filled)}] {words}"
