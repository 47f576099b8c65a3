"""What was left in Redis and the brain when all was healed and quiet: `final.json` of a run."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

#: Where it lies in the run's folder.
FINAL: Final = "final.json"


class StoredFact(Struct, frozen=True, kw_only=True):
    """One fact of a task as Redis has it."""

    sequence: int
    #: The arm's name, such as attempt_started.
    fact: str
    digest: str
    #: When it was recorded, in microseconds since 1970 by the ledger's clock.
    time: int
    #: The attempt that it names. Zero: none.
    attempt: int = 0
    #: Of attempt_started.
    worker: str = ""
    #: Of attempt_failed and task_failed: the failure's reason without its prefix: WORKER_LOST.
    reason: str = ""
    #: The id of the write.
    operation: int = 0
    #: Of task_succeeded: the task whose output was used again.
    reused_from: str = ""


class StoredTask(Struct, frozen=True, kw_only=True):
    """One task as Redis has it: its record's fields, and its facts in the order of their fields.

    *sequence* and *attempt* are the hash's fields q and n; the claim script leaves the record
    behind by one fact, which *record_sequence* tells (zero: there is no record yet).
    """

    task_id: str
    project: str
    sequence: int
    attempt: int
    facts: list[StoredFact]
    record_sequence: int = 0
    record_state: str = ""
    record_attempt: int = 0
    record_failures: int = 0
    record_cancel_requested: bool = False
    #: What the public API says: GetTask, without prefix. Empty: it was not asked.
    shown_state: str = ""
    shown_sequence: int = 0
    shown_attempt: int = 0
    #: Of the first fact.
    max_attempts: int = 0
    callback_url: str = ""
    #: The words of the callback's events, such as STARTED.
    callback_events: list[str] = []
    time_limit: float = 0.0
    retry_of: str = ""
    #: Of its metadata, into which the workload writes what each submission's CallBegun says; a
    #: task made by RetryTask has those of the task it repeats.
    request_id: str = ""
    spec_digest: str = ""


class StoredDelivery(Struct, frozen=True, kw_only=True):
    """One webhook delivery as Redis has it, or as it was seen while it was kept."""

    task_id: str
    sequence: int
    webhook_id: str
    #: WAITING, DELIVERED or DEAD.
    state: str
    url: str


class BrainFact(Struct, frozen=True, kw_only=True):
    """A fact in the embedded brain, and how often it is there."""

    project: str
    epoch: str
    task_id: str
    sequence: int
    #: The brain's word, such as succeeded.
    event: str
    count: int
    #: Of the fact: microseconds since 1970.
    time: int = 0


class Receiver(Struct, frozen=True, kw_only=True):
    """A receiver of webhooks."""

    name: str
    url: str
    #: Once all is healed it answers 2xx to whatever it gets, so that every delivery must arrive.
    honest: bool


class FinalState(Struct, frozen=True, kw_only=True):
    """What was left when all was healed and quiet."""

    epoch: str
    tasks: list[StoredTask]
    #: Ids of what is left in all ready sets, in the leases (id/attempt), and in the delayed set.
    ready: list[str] = []
    leases: list[str] = []
    delayed: list[str] = []
    deliveries: list[StoredDelivery] = []
    brain: list[BrainFact] = []
    #: epoch/task id/sequence of the brain writes that were given up.
    brain_dead: list[str] = []
    #: Receivers by name: their URLs and whether they answer 2xx to what they keep.
    receivers: list[Receiver] = []


def write_final(folder: Path, final: FinalState) -> None:
    """Write what was left. Raises OSError."""
    (folder / FINAL).write_bytes(msgspec.json.encode(final))


def read_final(folder: Path) -> FinalState:
    """Return what was left. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode((folder / FINAL).read_bytes(), type=FinalState)
