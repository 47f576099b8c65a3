"""Why the ledger refuses.

LedgerError
├── TaskNotFound           no task of that id in the principal's projects
├── DeliveryNotFound       no delivery of that id in the principal's projects
├── ProjectNotFound        the principal has no such project
├── RoleMissing            the principal may not do this
├── KeyInvalid             the API key is unknown or revoked
├── KeyNeeded              a ticket cannot do this
├── TicketNeeded           a key cannot do this
├── TicketExpired          the ticket's time is over
├── TicketRevoked          the ticket was given up
├── TicketNotRenewable     the ticket was made without renewals
├── QueueNotFound          no queue of that name
├── WorkerNotFound         no live worker of that id
├── InvalidField           a field breaks a rule that the contract's text states
├── ModelUnknown           the input names a model that is not in the catalogue
├── MemoryInsufficient     no device of a live worker has the memory for it
├── RequestIdReused        the request_id made another task
├── IllegalTransition      the task's state does not allow the command
├── LeaseLost              the attempt is not the task's running one
├── PageTokenInvalid       the token is not of this list
├── SequenceAhead          the task has no such sequence yet
├── EpochChanged           the reader's cursor or sequence is of another epoch
├── CursorLost             the log no longer holds, or never held, what follows the cursor
├── LedgerFull             the store's memory is nearly used up
├── LedgerBusy             more writes wait than may wait
├── LedgerUnavailable      the store does not answer
├── ConflictUnresolved     other writers were first, eight times in a row
└── UnknownVersion         a stored record is of a version this code does not know
"""

from datetime import timedelta

from callsheet.ledger.model import TaskState


class LedgerError(Exception):
    """The ledger refused. Nothing was changed, unless the subclass says otherwise."""


class TaskNotFound(LedgerError):
    """There is no task of that id in the principal's projects."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"there is no task {task_id}")
        self.task_id = task_id


class DeliveryNotFound(LedgerError):
    """There is no delivery of that id in the principal's projects."""

    def __init__(self, delivery_id: str) -> None:
        super().__init__(f"there is no delivery {delivery_id}")
        self.delivery_id = delivery_id


class ProjectNotFound(LedgerError):
    """The principal has no such project, or several and named none."""

    def __init__(self, project: str) -> None:
        named = f"the key belongs to no project {project!r}"
        super().__init__(named if project else "the key belongs to several projects: name one")
        self.project = project


class RoleMissing(LedgerError):
    """The principal may not do this."""

    def __init__(self, role: str) -> None:
        super().__init__(f"the key lacks the role {role}")
        self.role = role


class KeyInvalid(LedgerError):
    """The API key is missing, unknown or revoked."""

    def __init__(self, *, missing: bool = False) -> None:
        super().__init__("no API key was sent" if missing else "the API key is not valid")
        self.missing = missing


class KeyNeeded(LedgerError):
    """A ticket cannot do this: it takes the key itself."""

    def __init__(self) -> None:
        super().__init__("a ticket cannot make tickets: it takes the key itself")


class TicketNeeded(LedgerError):
    """A key cannot do this: it takes a ticket."""

    def __init__(self) -> None:
        super().__init__("a key is neither renewed nor given up: it takes a ticket")


class TicketExpired(LedgerError):
    """The ticket's time is over."""

    def __init__(self) -> None:
        super().__init__("the ticket has expired")


class TicketRevoked(LedgerError):
    """The ticket, or one that was made of it or of which it was made, was given up."""

    def __init__(self) -> None:
        super().__init__("the ticket was revoked")


class TicketNotRenewable(LedgerError):
    """The ticket was made without renewals."""

    def __init__(self) -> None:
        super().__init__("the ticket was made without renewals: make one with the key")


class QueueNotFound(LedgerError):
    """There is no queue of that name."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"there is no queue {queue}")
        self.queue = queue


class WorkerNotFound(LedgerError):
    """There is no live worker of that id."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"there is no worker {worker_id}")
        self.worker_id = worker_id


class InvalidField(LedgerError):
    """Fields break rules of the contract; *violations* holds (path, description) pairs."""

    def __init__(self, violations: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{path}: {text}" for path, text in violations))
        self.violations = violations


class ModelUnknown(LedgerError):
    """The input names a model, or what changes one, that is not in the catalogue."""

    def __init__(
        self, *, field: str, model: str, known: tuple[str, ...], what: str = "model"
    ) -> None:
        self.field, self.model, self.known, self.what = field, model, known, what
        super().__init__(f"{field}: {self.problem}")

    @property
    def problem(self) -> str:
        """What is wrong with the field, in words."""
        return f"there is no {self.what} {self.model!r}; known are {', '.join(self.known)}"


class MemoryInsufficient(LedgerError):
    """No device of a live worker has the memory for what is asked of a model.

    *fields* are the paths of those that ask for too much, *asked* is that in words, *needed* and
    *most* are amounts of memory, and *fitting* is what would fit; empty: nothing does.
    """

    def __init__(
        self,
        *,
        fields: tuple[str, ...],
        model: str,
        asked: str,
        needed: str,
        most: str,
        fitting: str = "",
    ) -> None:
        self.fields, self.model, self.asked = fields, model, asked
        self.needed, self.most, self.fitting = needed, most, fitting
        super().__init__(f"{fields[0]}: {self.problem}")

    @property
    def problem(self) -> str:
        """What is wrong with each of the fields, in words."""
        fits = f"{self.fitting} would fit" if self.fitting else "nothing it makes would fit"
        return (
            f"model {self.model} needs {self.needed} at the least for {self.asked}, and no worker's"
            f" device has more than {self.most}; {fits}"
        )


class RequestIdReused(LedgerError):
    """The request_id was used before, for another submission."""

    def __init__(self, request_id: str, task_id: str) -> None:
        super().__init__(f"request_id {request_id!r} made task {task_id} with another submission")
        self.request_id, self.task_id = request_id, task_id


class IllegalTransition(LedgerError):
    """The task's state does not allow the command."""

    def __init__(self, task_id: str, state: TaskState, command: str) -> None:
        super().__init__(f"cannot {command} task {task_id}: it is {state.value}")
        self.task_id, self.state, self.command = task_id, state, command


class LeaseLost(LedgerError):
    """The attempt is not the task's running one."""

    def __init__(self, task_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of task {task_id} has lost its lease")
        self.task_id, self.attempt = task_id, attempt


class PageTokenInvalid(LedgerError):
    """The page token is not of this list."""

    def __init__(self) -> None:
        super().__init__("the page token is not of this list")


class SequenceAhead(LedgerError):
    """The task has no such sequence yet."""

    def __init__(self, task_id: str, sequence: int, last: int) -> None:
        super().__init__(f"task {task_id} has no fact {sequence}: its last one is {last}")
        self.task_id, self.sequence, self.last = task_id, sequence, last


class EpochChanged(LedgerError):
    """The reader's cursor or sequence is of another epoch: the ledger was restored since."""

    def __init__(self, remembered: str, current: str) -> None:
        super().__init__(f"the ledger's epoch is {current}, not {remembered}: read anew")
        self.remembered, self.current = remembered, current


class CursorLost(LedgerError):
    """The log no longer holds, or never held, what follows the cursor."""

    def __init__(self, position: str) -> None:
        super().__init__(f"the log cannot be read on from {position}")
        self.position = position


class LedgerFull(LedgerError):
    """The store's memory is nearly used up; nothing new is accepted."""

    retry_delay = timedelta(seconds=30)

    def __init__(self, used_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the ledger is nearly full: {used_bytes} of {limit_bytes} bytes are used")
        self.used_bytes, self.limit_bytes = used_bytes, limit_bytes


class LedgerBusy(LedgerError):
    """More writes wait than may wait."""

    retry_delay = timedelta(seconds=1)

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} writes are waiting already")
        self.waiting = waiting


class LedgerUnavailable(LedgerError):
    """The store does not answer. A write may have happened; repeat it with the same id."""

    retry_delay = timedelta(seconds=2)

    def __init__(self, reason: str) -> None:
        super().__init__(f"the ledger does not answer: {reason}")
        self.reason = reason


class ConflictUnresolved(LedgerError):
    """Other writers were first, as often as may be tried."""

    retry_delay = timedelta(seconds=1)

    def __init__(self, task_id: str, tries: int) -> None:
        super().__init__(f"task {task_id} was changed by others {tries} times in a row")
        self.task_id, self.tries = task_id, tries


class UnknownVersion(LedgerError):
    """A stored record is of a version this code does not know; 0: it is no record at all."""

    def __init__(self, kind: str, version: int) -> None:
        super().__init__(f"a stored {kind} has the unknown version {version}")
        self.kind, self.version = kind, version
