"""Looks at what only operators are told: who serves each queue, and how far the sidecar is behind.

Control tells it to a key of the role operate; without one nobody knows.
"""

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from callsheet.client import AsyncTaskClient
from callsheet.client.errors import CallError, PermissionDenied, Unauthenticated
from callsheet.runtime.checks.finding import Finding, HealthState, worst
from callsheet.v1.operations_service_pb2 import LogReader, Queue

#: A reader that is this far behind is told of, and one that far has stopped.
BEHIND: Final = timedelta(seconds=30)
STUCK: Final = timedelta(minutes=10)

_WEBHOOKS: Final = "webhooks"
_BRAIN: Final = "brain"
#: The log's readers that a sidecar is, by name.
_READERS: Final = {"sidecar": _WEBHOOKS, "brain": _BRAIN}

_NO_KEY: Final = Finding(
    state=HealthState.UNKNOWN,
    reason="there is no key to look with",
    mend="set CALLSHEET_HEALTH_KEY to a key of the role operate: "
    "`callsheetd keys create --project default --role operate`",
)

Answer = TypeVar("Answer")


class _Untold(Exception):
    """Control does not tell; *finding* says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.reason)
        self.finding = finding


class WorkersCheck:
    """Looks at the queues: one that nobody serves is down when tasks wait in it."""

    name = "workers"
    is_essential = False

    def __init__(self, client: AsyncTaskClient | None) -> None:
        self._client = client

    async def look(self) -> Finding:
        """Return how the queues are served now."""
        if self._client is None:
            return _NO_KEY
        try:
            queues = await _told(self._client.queues())
        except _Untold as untold:
            return untold.finding
        return workers_finding(queues)


class SidecarCheck:
    """Looks at the log's readers: one that is far behind, or that nobody is, does not tell."""

    name = "sidecar"
    is_essential = False

    def __init__(self, client: AsyncTaskClient | None, *, has_brain: bool) -> None:
        self._client = client
        self._has_brain = has_brain

    async def look(self) -> Finding:
        """Return how far the sidecar has come."""
        if self._client is None:
            return _NO_KEY
        try:
            readers = await _told(self._client.log_readers())
        except _Untold as untold:
            return untold.finding
        return sidecar_finding(readers, has_brain=self._has_brain)


def workers_finding(queues: Sequence[Queue]) -> Finding:
    """Return what the queues say of the workers."""
    parts = {queue.name: _queue_finding(queue) for queue in queues}
    is_served = any(queue.workers for queue in queues)
    state = HealthState.UP
    if not is_served:
        state = HealthState.DOWN
    elif worst(part.state for part in parts.values()) is not HealthState.UP:
        state = HealthState.DEGRADED
    reason = {HealthState.DOWN: "no worker runs", HealthState.DEGRADED: "not every queue is served"}
    return Finding(
        state=state,
        reason=reason.get(state, ""),
        mend="" if is_served else "start one with `callsheetd worker`; its log says why it ended",
        figures={"ready": sum(queue.ready for queue in queues)},
        parts=parts,
    )


def sidecar_finding(readers: Sequence[LogReader], *, has_brain: bool) -> Finding:
    """Return what the log's readers say of the sidecar."""
    parts = {
        _READERS[reader.name]: _reader_finding(reader)
        for reader in readers
        if reader.name == "sidecar" or (reader.name == "brain" and has_brain)
    }
    told = parts.get(_WEBHOOKS, Finding(state=HealthState.UNKNOWN, reason="it never ran"))
    if told.state is HealthState.UP and worst(p.state for p in parts.values()) is not told.state:
        brain = parts[_BRAIN]
        told = Finding(
            state=HealthState.DEGRADED, reason=f"the brain: {brain.reason}", mend=brain.mend
        )
    return Finding(state=told.state, reason=told.reason, mend=told.mend, parts=parts)


def _queue_finding(queue: Queue) -> Finding:
    figures = {
        "ready": queue.ready,
        "workers": queue.workers,
        "slots": queue.slots,
        "busy_slots": queue.busy_slots,
        "oldest_wait_seconds": round(queue.oldest_wait.ToTimedelta().total_seconds(), 3),
    }
    state, reason, mend = HealthState.UP, "", ""
    if not queue.workers:
        state = HealthState.DOWN if queue.ready else HealthState.DEGRADED
        reason = "tasks wait and no worker serves it" if queue.ready else "no worker serves it"
        mend = "start a worker, whose CALLSHEET_WORKER_QUEUES has it or is unset"
    elif queue.HasField("pause_time"):
        state, reason, mend = HealthState.DEGRADED, "operators paused it", "resume the queue"
    return Finding(state=state, reason=reason, mend=mend, figures=figures)


def _reader_finding(reader: LogReader) -> Finding:
    lag = reader.lag.ToTimedelta()
    state, reason = HealthState.UP, ""
    if not reader.is_held:
        state, reason = HealthState.DOWN, "no sidecar runs"
    elif lag > STUCK:
        state, reason = HealthState.DOWN, "it is far behind"
    elif lag > BEHIND:
        state, reason = HealthState.DEGRADED, "it is behind"
    mend = {
        "no sidecar runs": "start one with `callsheetd sidecar`; its log says why it ended",
        "it is far behind": "look at the sidecar's log: what it told of last keeps it",
    }
    return Finding(
        state=state,
        reason=reason,
        mend=mend.get(reason, ""),
        figures={"lag_seconds": round(lag.total_seconds(), 3)},
    )


async def _told(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except (PermissionDenied, Unauthenticated) as error:
        finding = Finding(
            state=HealthState.UNKNOWN,
            reason="the key to look with is refused",
            detail=error.message,
            mend=_NO_KEY.mend,
        )
        raise _Untold(finding) from error
    except CallError as error:
        finding = Finding(
            state=HealthState.UNKNOWN, reason="control does not tell", detail=error.message
        )
        raise _Untold(finding) from error
