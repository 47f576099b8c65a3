"""How the command ends: one clear line, and a code that scripts can tell apart."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from callsheet.client.cli.render import plain
from callsheet.client.errors import (
    Aborted,
    CallCancelled,
    CallError,
    CallsheetError,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    TaskCancelled,
    TaskFailed,
    Unavailable,
    Unknown,
    WaitTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Exit(IntEnum):
    """The exit codes; they are part of the command's interface."""

    DONE = 0
    BROKEN = 1
    USAGE = 2
    REFUSED = 3
    TASK_FAILED = 4
    UNAVAILABLE = 5
    NOT_FINAL = 6
    INTERRUPTED = 130


#: What each code means, for ``--help``.
MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.DONE: "done",
    Exit.BROKEN: "something is broken: a defect, or lost facts",
    Exit.USAGE: "the command was not understood",
    Exit.REFUSED: "the plane refused the request",
    Exit.TASK_FAILED: "the task failed or was cancelled",
    Exit.UNAVAILABLE: "the plane cannot be reached, or did not answer in time",
    Exit.NOT_FINAL: "the task was not final in time; it goes on",
    Exit.INTERRUPTED: "interrupted by Ctrl-C; a task that was followed goes on",
}


class UsageError(Exception):
    """The command line cannot be carried out as it was given."""


def exit_code(error: CallsheetError | UsageError) -> Exit:
    """Return the code that tells of the error."""
    match error:
        case UsageError():
            return Exit.USAGE
        case TaskFailed() | TaskCancelled():
            return Exit.TASK_FAILED
        case Unavailable() | DeadlineExceeded() | CallCancelled():
            return Exit.UNAVAILABLE
        case WaitTimeout():
            return Exit.NOT_FINAL
        case Internal() | Unknown() | DataLoss() | Aborted():
            return Exit.BROKEN
        case CallError():
            return Exit.REFUSED
        case _:
            return Exit.BROKEN


def one_line(error: CallsheetError | UsageError, *, address: str) -> str:
    """Return the error as one line for people."""
    text = str(error)
    if isinstance(error, InvalidArgument) and error.violations:
        text = "; ".join(f"{each.field}: {each.description}" for each in error.violations)
    if isinstance(error, Unavailable) and not error.reason:
        text = f"the plane at {address} cannot be reached: {text}"
    if isinstance(error, DeadlineExceeded) and not error.reason:
        text = f"the plane at {address} did not answer in time"
    if isinstance(error, CallError) and error.reason:
        text = f"{text} [{error.reason}]"
    return " ".join(plain(text).split())
