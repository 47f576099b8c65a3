"""What the observers of a chaos run write down, outside Redis: one record a line, flushed at once.

A run folder holds `history/*.jsonl`, one file for each observer, and `final.json` (final_state.py);
the checker reads nothing else. `at` is seconds by CLOCK_MONOTONIC, which all processes of one
machine share. Digests of facts come from digests.py.
"""

from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

#: Where the records of a run lie in its folder.
HISTORY: Final = "history"

#: The calls that change a task.
CallName: TypeAlias = Literal["submit", "cancel", "retry"]


class Observed(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Something that an observer saw."""

    at: float


class CallBegun(Observed, frozen=True, tag="call_begun"):
    """A call is about to be sent; each repetition, and each item of a batch, is one of its own."""

    #: Unique in the run; its outcome quotes it.
    call: str
    rpc: CallName
    project: str
    #: Of a submission or a retry.
    request_id: str = ""
    #: Of a submission: equal for equal specs.
    spec_digest: str = ""
    #: Of a cancellation or a retry: the task it is about.
    task_id: str = ""
    #: Of a submission: the name of the receiver that is to be told. Empty: nobody.
    receiver: str = ""
    #: Of a submission: what its work does if no fault hits it.
    intent: Literal["succeed", "fail", "poison", "refuse", "any"] = "any"


class CallAnswered(Observed, frozen=True, tag="call_answered"):
    """The call was answered OK."""

    call: str
    task_id: str
    #: The state and sequence of the answer's task; of a batch, as far as they are told.
    state: str = ""
    sequence: int = 0


class CallRefused(Observed, frozen=True, tag="call_refused"):
    """The call was refused by the server's own word: it changed nothing.

    Only codes that say so: INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION,
    PERMISSION_DENIED, UNAUTHENTICATED, OUT_OF_RANGE, RESOURCE_EXHAUSTED of the server's own making.
    """

    call: str
    code: str
    reason: str = ""


class CallUnknown(Observed, frozen=True, tag="call_unknown"):
    """Nobody knows whether the call took effect: no answer, or UNAVAILABLE, DEADLINE_EXCEEDED."""

    call: str
    code: str


class WatchOpened(Observed, frozen=True, tag="watch_opened"):
    """A watcher opened, or opened again, its stream after the last fact that it saw."""

    #: Unique to the watcher; the same over its reconnects.
    watch: str
    project: str
    task_id: str
    after: int = 0
    epoch: str = ""


class WatchFact(Observed, frozen=True, tag="watch_fact"):
    """A watcher was told a fact."""

    watch: str
    task_id: str
    sequence: int
    #: The arm's name, such as attempt_started.
    fact: str
    digest: str
    epoch: str


class WatchTold(Observed, frozen=True, tag="watch_told"):
    """A watcher was told loudly that its facts cannot be had: the SDK's DataLoss, and the like."""

    watch: str
    code: str
    reason: str = ""


class WatchEnded(Observed, frozen=True, tag="watch_ended"):
    """A watch is over: ended by the server after the final fact, or left by its watcher's own will.

    A watch that was neither ended nor told loudly counts as one that never got its facts.
    """

    watch: str
    outcome: Literal["final", "left"]


class WorkStarted(Observed, frozen=True, tag="work_started"):
    """An attempt runs; written by the attempt itself."""

    task_id: str
    attempt: int
    #: The worker's id as the facts have it.
    worker: str
    #: The name of the worker's process, as the faults' targets have it, such as worker-1.
    process: str
    #: The process that does the work: the worker's own or its runner's.
    pid: int


class WorkEnded(Observed, frozen=True, tag="work_ended"):
    """An attempt stopped running; written by the attempt itself, so not if it was killed."""

    task_id: str
    attempt: int
    worker: str
    process: str
    pid: int
    outcome: Literal["returned", "raised", "cancelled"]


class ProcessStarted(Observed, frozen=True, tag="process_started"):
    """The supervisor started a process: the first time, or again after its death."""

    process: str
    pid: int
    #: Of a worker: its id, as far as the supervisor knows it.
    worker: str = ""


class ProcessEnded(Observed, frozen=True, tag="process_ended"):
    """The supervisor saw a process dead; *status* as Popen has it."""

    process: str
    pid: int
    status: int


class WebhookReceived(Observed, frozen=True, tag="webhook_received"):
    """A receiver got a webhook; written before it answers."""

    receiver: str
    webhook_id: str
    #: The body's fields of these names; *status* and *event* are its words.
    task_id: str
    project: str
    status: str
    event: str
    sequence: int
    attempt: int
    #: Whether the public verification accepts signature and time under the project's secret.
    signature_valid: bool
    #: sha256 of the body's bytes, in hexadecimal digits.
    body_digest: str
    #: The HTTP status that was, or was about to be, answered. Zero: none, the line was cut.
    answered: int


class ForeignProbe(Observed, frozen=True, tag="foreign_probe"):
    """Someone asked for a task of another project."""

    rpc: str
    #: Who asked.
    project: str
    task_id: str
    #: OK when it was answered: that is a leak. Outcomes that nobody knows are not written down.
    code: str


class RefusedProbe(Observed, frozen=True, tag="refused_probe"):
    """Something was refused, and the task it was about was read before and after."""

    rpc: str
    project: str
    task_id: str
    code: str
    #: Whatever was read, in any canonical text; a final task is still, so both are the same.
    before: str
    after: str


class ListedTask(Observed, frozen=True, tag="listed_task"):
    """A task stood in a list that a project asked for."""

    project: str
    task_id: str


class FaultBegun(Observed, frozen=True, tag="fault_begun"):
    """The nemesis did something, and saw that it took effect."""

    #: Unique in the run; its end quotes it.
    fault: str
    fault_kind: str
    #: The process or link, such as worker-1, valkey, worker-1>valkey, sidecar-2>receiver-honest.
    target: str
    evidence: str = ""


class FaultEnded(Observed, frozen=True, tag="fault_ended"):
    """What the nemesis did is over: continued, restarted, connected again."""

    fault: str
    evidence: str = ""


class Healed(Observed, frozen=True, tag="healed"):
    """All faults have ended; from here on there are none. *faults*: those that came before."""

    faults: int = 0


class Flow(Observed, frozen=True, tag="flow"):
    """The first task that was submitted after the healing has succeeded; at most one a healing."""

    task_id: str


Record: TypeAlias = (
    CallBegun
    | CallAnswered
    | CallRefused
    | CallUnknown
    | WatchOpened
    | WatchFact
    | WatchTold
    | WatchEnded
    | WorkStarted
    | WorkEnded
    | ProcessStarted
    | ProcessEnded
    | WebhookReceived
    | ForeignProbe
    | RefusedProbe
    | ListedTask
    | FaultBegun
    | FaultEnded
    | Healed
    | Flow
)


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Record)


class HistoryWriter:
    """Appends records to one observer's file; what is written outlives a kill -9 of the process."""

    def __init__(self, folder: Path, observer: str) -> None:
        (folder / HISTORY).mkdir(parents=True, exist_ok=True)
        # Unbuffered: each record is one write(2), appended whole even from several processes.
        self._file = (folder / HISTORY / f"{observer}.jsonl").open("ab", buffering=0)

    def write(self, record: Record) -> None:
        """Append a record. Raises OSError."""
        self._file.write(_ENCODER.encode(record) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(folder: Path) -> list[Record]:
    """Return all records of a run, oldest first.

    A last line that its observer's death cut short is left out. Raises msgspec.ValidationError or
    DecodeError for any other line that is not a record.
    """
    records: list[Record] = []
    for path in sorted((folder / HISTORY).glob("*.jsonl")):
        content = path.read_bytes()
        whole, _, _ = content.rpartition(b"\n")
        records += (_DECODER.decode(line) for line in whole.split(b"\n") if line)
    return sorted(records, key=lambda record: record.at)
