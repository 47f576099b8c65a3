"""How a submission is answered: by a new task, or by one that is there already."""

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from hashlib import sha256
from typing import NamedTuple, cast

from msgspec.json import encode
from msgspec.structs import fields, replace

from callsheet.ledger.codec import decode_task
from callsheet.ledger.errors import LedgerError, RequestIdReused, TaskNotFound
from callsheet.ledger.instants import instant
from callsheet.ledger.model import (
    NO_TIME,
    NOTHING,
    CallbackEvent,
    PinnedModel,
    Submission,
    Task,
)
from callsheet.ledger.store import Applied, Commit, Refused


class Outcome(Enum):
    """How a submission was answered."""

    CREATED = "CREATED"
    REPEATED = "REPEATED"
    JOINED = "JOINED"
    REUSED = "REUSED"


class ReuseWish(NamedTuple):
    """A wish to be answered with what an equal submission made, or, if it *joins*, is making.

    *digest* is of what equal submissions have in common, *models* among it; *max_age* None means
    the type's own.
    """

    digest: str
    joins: bool = False
    max_age: timedelta | None = None
    models: tuple[PinnedModel, ...] = ()


class SubmitCommand(NamedTuple):
    """A wish to submit; None means the task type's own."""

    spec: bytes
    task_type: str
    project: str = ""
    request_id: str = ""
    priority: int | None = None
    delay: timedelta = NO_TIME
    expire_after: timedelta | None = None
    callback_url: str = ""
    callback_events: tuple[CallbackEvent, ...] = ()
    metadata: Mapping[str, str] = NOTHING
    trace_parent: str = ""
    #: None: the task is made, and its output offered to nobody.
    reuse: ReuseWish | None = None
    #: Why no task is made of it; one that is there already answers it all the same.
    unfit: LedgerError | None = None


class Prepared(NamedTuple):
    """A task as it will be but for its times, the request that makes it, and its commit."""

    task: Task
    request_id: str
    commit: Commit
    reuse: ReuseWish | None = None
    unfit: LedgerError | None = None


class Accepted(NamedTuple):
    """The task that answers a submission, and how it came to."""

    task: Task
    outcome: Outcome


def accepted(prepared: Prepared, answer: Applied | Refused) -> Accepted | LedgerError:
    """Return what the store's answer to the submission's own commit means."""
    if isinstance(answer, Applied):
        time = instant(answer.time)
        task = replace(prepared.task, create_time=time, update_time=time)
        return Accepted(task, Outcome.CREATED)
    if answer.stored is None:
        return TaskNotFound(prepared.task.id)
    return repeated(prepared, decode_task(answer.stored))


def repeated(prepared: Prepared, task: Task) -> Accepted | LedgerError:
    """Return the task that the request made before, unless it was made for something else."""
    if asked(task.submission) != asked(prepared.task.submission):
        return RequestIdReused(prepared.request_id, task.id)
    return Accepted(task, Outcome.REPEATED)


def asked_digest(submission: Submission) -> str:
    """Return a digest of what the client asked for, the same in every process.

    Only what is said counts: a field that is new here, and left out, changes no digest.
    """
    wanted = asked(submission)
    said = {
        field.name: value
        for field in fields(wanted)
        if (value := getattr(wanted, field.name)) != field.default
    }
    return sha256(encode(said, order="sorted", enc_hook=_plain)).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, str]", value))
    raise TypeError(f"a submission holds no {type(value).__name__}")


def asked(submission: Submission) -> Submission:
    """Return what the client asked for: not the task type's terms, nor the request's own trace."""
    return replace(
        submission, queue="", max_attempts=0, time_limit=NO_TIME, trace_parent="", reuse=None
    )
