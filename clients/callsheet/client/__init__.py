"""The client of the task plane: what an orchestrator needs, and nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callsheet.client.aio import AsyncTaskClient
    from callsheet.client.errors import (
        Aborted,
        AlreadyExists,
        CallCancelled,
        CallError,
        CallsheetError,
        DataLoss,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        NotFound,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        TaskCancelled,
        TaskFailed,
        TaskNotFound,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        Unknown,
        Violation,
        WaitTimeout,
    )
    from callsheet.client.handle import AsyncTaskHandle, TaskHandle
    from callsheet.client.retry import BackoffPolicy
    from callsheet.client.submission import Submission, SubmitOptions
    from callsheet.client.sync import TaskClient

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncTaskClient",
    "AsyncTaskHandle",
    "BackoffPolicy",
    "CallCancelled",
    "CallError",
    "CallsheetError",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Submission",
    "SubmitOptions",
    "TaskCancelled",
    "TaskClient",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "Violation",
    "WaitTimeout",
]

_MODULES = ("aio", "errors", "handle", "retry", "submission", "sync")


def __getattr__(name: str) -> object:
    """Import a name of ``__all__`` when it is first asked for.

    So a receiver of webhooks, and the start of the command line, need not load gRPC.
    """
    if name in __all__:
        for module_name in _MODULES:
            module = import_module(f"{__name__}.{module_name}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
