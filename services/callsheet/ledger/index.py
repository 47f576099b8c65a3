"""Where a task stands in the indexes: every key of a cell, and the moves each fact makes.

All keys of a cell share the hash tag `{<cell>}`, so that one script may touch them all.
"""

import re
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from callsheet.ledger.events import CancelRequested, CheckpointSaved, ContextRetrieved, Event
from callsheet.ledger.instants import microseconds, span
from callsheet.ledger.model import NO_TIME, Task, TaskState, Terms
from callsheet.ledger.pins import ran

#: Scores of ready sets count from 2025-01-01: band and time fit a double exactly until 2053.
SCORE_START: Final = 1_735_689_600_000_000
#: The distance of two priorities in a ready set: 28 years in microseconds.
BAND: Final = 900_000_000_000_000
HIGHEST_PRIORITY: Final = 9
#: How much longer a task is kept than the last one answered with its output: microseconds. More
#: than from one round of the pruner to the next, and from one sweep of artifacts to the next.
OUTLIVES: Final = 3_600_000_000
#: What is counted of submissions that allow reuse, for each task type.
REUSE_ANSWERS: Final = ("hits", "misses", "joins")
#: Wake-ups that wait per queue; more would wake nobody sooner.
WAKES_KEPT: Final = 64
_ATTEMPT: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
#: Words that wait on a worker's control list; the renewal tells what fell off.
CONTROL_KEPT: Final = 1024
#: The word that concerns the worker itself: operators wish something of it. No task has this id.
WORKER_WORD: Final = ("worker", 0)


class Keys:
    """Makes every key of a cell, in this one place."""

    def __init__(self, cell: str) -> None:
        self.cell = cell
        self.prefix = f"callsheet:{{{cell}}}:"
        self.log = f"{self.prefix}log"  # STREAM t = task id, e = event record
        self.delayed = f"{self.prefix}delayed"  # ZSET task id → due time
        self.expiring = f"{self.prefix}expiring"  # ZSET task id → expire time
        self.leases = f"{self.prefix}leases"  # ZSET id/attempt → expire time
        self.final = f"{self.prefix}final"  # ZSET task id → prune-after time
        self.signals = f"{self.prefix}signals"  # CHANNEL signal records
        self.epoch = f"{self.prefix}epoch"  # STRING
        self.identity = f"{self.prefix}identity"  # STRING made once: whose artifacts are whose
        self.offers = f"{self.prefix}offers"  # HASH worker id → offer; and id= → what it was handed
        self.cursors = f"{self.prefix}cursors"  # HASH reader → log position
        self.graph = f"{self.prefix}graph"  # HASH epoch, gap, heal: what the brain was told
        self.graph_dead = f"{self.prefix}graph:dead"  # HASH epoch/id/sequence → time, reason
        self.graph_told = f"{self.prefix}graph:told"  # ZSET log position, when → its milliseconds
        self.workers = f"{self.prefix}workers"  # HASH worker id → worker record
        self.workers_seen = f"{self.prefix}workers:seen"  # ZSET worker id → time
        self.worker_wishes = f"{self.prefix}workers:wishes"  # HASH worker id → pause or drain
        self.paused = f"{self.prefix}queues:paused"  # HASH queue → when operators paused it
        self.counted = f"{self.prefix}performance:counted"  # STRING how far the log was counted
        self.api_keys = f"{self.prefix}keys"  # HASH key id → key record
        self.ticket_secret = f"{self.prefix}tickets:secret"  # STRING made once: signs tickets
        self.reuse_counts = f"{self.prefix}reuse:counts"  # HASH <task type>:<what> → how often
        self.delivery_projects = (
            f"{self.prefix}deliveries:projects"  # ZSET project → first due time
        )
        self.delivery_circuits = f"{self.prefix}deliveries:circuits"  # HASH line → circuit
        self.delivery_disabled = f"{self.prefix}deliveries:disabled"  # HASH project/endpoint → why
        self.delivery_leases = f"{self.prefix}deliveries:leases"  # ZSET id/endpoint → expire time
        self.media_due = f"{self.prefix}media:due"  # ZSET task id → next try, or lease end
        self.media_records = f"{self.prefix}media:records"  # HASH task id → tries so far
        self.media_dead = f"{self.prefix}media:dead"  # ZSET task id → when it was given up
        self.media_holds = f"{self.prefix}media:holds"  # ZSET task id → its webhook waits until
        self.delivery_ended = f"{self.prefix}deliveries:ended"  # ZSET task id → remove-after time
        self.webhook_origins = f"{self.prefix}webhooks:origins"  # HASH project/origin → sealed key
        self.webhook_secrets = f"{self.prefix}webhooks:secrets"  # HASH project → versions
        self.webhook_version = f"{self.prefix}webhooks:version"  # STRING grows with each change

    def task(self, task_id: str) -> str:
        """HASH: r record, q sequence, n attempt, p newest progress, 1 … n facts."""
        return f"{self.prefix}task:{task_id}"

    def ready(self, queue: str) -> str:
        """ZSET: task id → priority band, then submit time."""
        return f"{self.prefix}ready:{queue}"

    def wake(self, queue: str) -> str:
        """LIST: ids of tasks that became ready; BLPOP by workers."""
        return f"{self.prefix}wake:{queue}"

    def revoked_ticket(self, ticket_id: str) -> str:
        """STRING: empty; there while a ticket of that id would still be good, but was given up."""
        return f"{self.prefix}tickets:revoked:{ticket_id}"

    def idle(self, queue: str) -> str:
        """ZSET: worker id → until when it offers to take the queue's next task at once."""
        return f"{self.prefix}idle:{queue}"

    def handed(self, worker: str) -> str:
        """CHANNEL: tasks that were started for the worker in the commits that submitted them."""
        return f"{self.prefix}handed:{worker}"

    def control(self, worker: str) -> str:
        """LIST: id/attempt of attempts the worker must look at again; BLPOP by it; expires."""
        return f"{self.prefix}control:{worker}"

    def project(self, project: str) -> str:
        """ZSET: task id → create time; all tasks of the project."""
        return f"{self.prefix}project:{project}"

    def project_type(self, project: str, task_type: str) -> str:
        """ZSET: task id → create time; the project's tasks of one type."""
        return f"{self.prefix}project:{project}:type:{task_type}"

    def project_live(self, project: str) -> str:
        """ZSET: task id → create time; the project's tasks that are not final."""
        return f"{self.prefix}project:{project}:live"

    def reuse(self, project: str, digest: str) -> str:
        """STRING: the task whose output equal submissions may be answered with; expires."""
        return f"{self.prefix}reuse:{project}:{digest}"

    def joined(self, task_id: str) -> str:
        """STRING: the task that was joined instead of making this one, what was asked; expires."""
        return f"{self.prefix}joined:{task_id}"

    def project_final(self, project: str, state: TaskState) -> str:
        """ZSET: task id → create time; the project's tasks that ended in this state."""
        return f"{self.prefix}project:{project}:{state.value.lower()}"

    def deliveries(self, task_id: str) -> str:
        """HASH: created, project; <endpoint>/<key> record, <endpoint>:last, :signal, :waiting."""
        return f"{self.prefix}deliveries:{task_id}"

    def deliveries_due(self, line: str) -> str:
        """ZSET: task id/endpoint → when the head of that delivery queue is due."""
        return f"{self.prefix}deliveries:due:{line}"

    def delivery_lines(self, project: str) -> str:
        """ZSET: line of the project → when its first delivery queue is due."""
        return f"{self.prefix}deliveries:lines:{project}"

    def project_deliveries(self, project: str) -> tuple[str, str, str]:
        """ZSETs: task id/endpoint/key → create time; all, those that wait, and the dead ones."""
        every = f"{self.prefix}project:{project}:deliveries"
        return every, f"{every}:waiting", f"{every}:dead"

    def delivery_lists(self, project: str) -> tuple[str, ...]:
        """All that is listed of a project's deliveries: its deliveries, lines and endpoints."""
        lines, disabled = self.delivery_lines(project), self.disabled_endpoints(project)
        return *self.project_deliveries(project), lines, disabled

    def disabled_endpoints(self, project: str) -> str:
        """ZSET: the project's endpoints that are disabled → when that is forgotten."""
        return f"{self.prefix}project:{project}:deliveries:disabled"

    def media_lock(self, name: str) -> str:
        """STRING: the task that is uploading bytes of this name just now."""
        return f"{self.prefix}media:lock:{name}"

    def performance(self, length: str, start: int) -> str:
        """HASH: <project>/<task type>/<measure>, /<queue>/<measure> → how much; expires.

        *start* is of the bucket, in seconds since 1970.
        """
        return f"{self.prefix}performance:{length}:{start}"

    def hold(self, role: str) -> str:
        """HASH: holder, until; who has a role that one holder has at a time."""
        return f"{self.prefix}hold:{role}"


class Op(Enum):
    """What a move does; the values are the commit script's words."""

    ADD = "Z"  # to a sorted set, with this score
    ADD_AFTER = "T"  # to a sorted set, with the commit's time plus this
    REMOVE = "R"  # from a sorted set
    WAKE = "W"  # push to a wake list, unless enough wait
    TELL = "C"  # push to a control list
    FORGET = "D"  # delete the whole key
    KEEP = "K"  # let a key hold the member, for this long
    LET_GO = "U"  # delete a key, if it holds the member
    COUNT = "I"  # add this to the member of a hash
    HAND = "H"  # start it for a worker idle for this queue; then the next two moves are left out


class Move(NamedTuple):
    """One change of one index; an empty *member* is the task's own id.

    Tasks that are moved alike share their moves, and the commit script is told them once.
    """

    op: Op
    key: str
    member: str = ""
    score: int = 0


def lease_member(task_id: str, attempt: int) -> str:
    """Return the member that stands for an attempt's lease."""
    return f"{task_id}/{attempt}"


def parse_lease(member: str) -> tuple[str, int]:
    """Return (task id, attempt) of a lease's member."""
    task_id, _, attempt = member.rpartition("/")
    return task_id, int(attempt)


def parse_word(word: str) -> tuple[str, int] | None:
    """Return (task id, attempt) of a word on a worker's control list; None: it names none."""
    task_id, _, attempt = word.rpartition("/")
    return (task_id, int(attempt)) if _ATTEMPT.fullmatch(attempt) else None


def priority_band(priority: int) -> int:
    """Return the part of a ready score that the priority makes."""
    return (HIGHEST_PRIORITY - priority) * BAND - SCORE_START


def moves(
    keys: Keys, before: Task | None, after: Task, event: Event, *, retention: int
) -> tuple[Move, ...]:
    """Return what a fact changes in the indexes; *retention* is in microseconds."""
    if before is None:
        return _submitted(keys, after.submission.terms)
    if before.is_final:
        return ()
    if after.is_final:
        return _ended(keys, before, after, retention)
    match after.state:
        case TaskState.PENDING:
            lease = Move(Op.REMOVE, keys.leases, lease_member(before.id, before.attempt))
            return (lease, *_waiting(keys, after))
        case TaskState.RUNNING if isinstance(event, CancelRequested):
            member = lease_member(after.id, after.attempt)
            return (Move(Op.TELL, keys.control(after.worker), member),)
        case TaskState.RUNNING if isinstance(event, ContextRetrieved | CheckpointSaved):
            return ()
        case _:
            raise ValueError(f"{type(event).__name__} is written by the claim script alone")


def reused_moves(keys: Keys, task: Task, source: Task, *, retention: int) -> tuple[Move, ...]:
    """Return what a task changes that was answered at once with the output of another one.

    The other one is then kept as long, and a little longer: its artifacts are both their own.
    """
    project = task.submission.project
    return (
        Move(Op.ADD_AFTER, keys.project(project)),
        Move(Op.ADD_AFTER, keys.project_type(project, task.submission.task_type)),
        Move(Op.ADD_AFTER, keys.project_final(project, task.state)),
        Move(Op.ADD_AFTER, keys.final, score=retention),
        Move(Op.ADD_AFTER, keys.final, source.id, retention + OUTLIVES),
    )


def reuse_count(task_type: str, what: str) -> str:
    """Return the member that counts one way in which submissions that allow reuse were answered."""
    return f"{task_type}:{what}"


def due_moves(keys: Keys, task: Task) -> tuple[Move, ...]:
    """Return what makes a delayed task ready."""
    return (Move(Op.REMOVE, keys.delayed), *_ready(keys, task))


def prune_moves(keys: Keys, task: Task) -> tuple[Move, ...]:
    """Return what forgets a final task: its hash, and its place in every index."""
    project = task.submission.project
    places = (
        keys.final,
        keys.project(project),
        keys.project_type(project, task.submission.task_type),
        keys.project_final(project, task.state),
    )
    listed = (Move(Op.REMOVE, place) for place in places)
    return (*listed, *_not_offered(keys, task), Move(Op.FORGET, keys.task(task.id)))


@lru_cache(maxsize=1024)
def _submitted(keys: Keys, terms: Terms) -> tuple[Move, ...]:
    listed = (
        Move(Op.ADD_AFTER, keys.project(terms.project)),
        Move(Op.ADD_AFTER, keys.project_type(terms.project, terms.task_type)),
        Move(Op.ADD_AFTER, keys.project_live(terms.project)),
    )
    if terms.expire_after is not None:
        listed = (*listed, Move(Op.ADD_AFTER, keys.expiring, score=span(terms.expire_after)))
    if terms.delay > NO_TIME:
        return (*listed, Move(Op.ADD_AFTER, keys.delayed, score=span(terms.delay)))
    hand = Move(Op.HAND, keys.idle(terms.queue), terms.queue)
    ready = Move(Op.ADD_AFTER, keys.ready(terms.queue), score=priority_band(terms.priority))
    return (*listed, hand, ready, Move(Op.WAKE, keys.wake(terms.queue)))


def _waiting(keys: Keys, task: Task) -> tuple[Move, ...]:
    if task.ready_delay > NO_TIME:
        return (Move(Op.ADD_AFTER, keys.delayed, score=span(task.ready_delay)),)
    return _ready(keys, task)


def _ready(keys: Keys, task: Task) -> tuple[Move, ...]:
    """A task that comes back keeps the place its submission gave it."""
    score = priority_band(task.submission.priority) + microseconds(task.create_time)
    queue = task.submission.queue
    return (
        Move(Op.ADD, keys.ready(queue), score=score),
        Move(Op.WAKE, keys.wake(queue)),
    )


def _ended(keys: Keys, before: Task, after: Task, retention: int) -> tuple[Move, ...]:
    project = after.submission.project
    created = microseconds(after.create_time)
    listed = (
        Move(Op.REMOVE, keys.project_live(project)),
        Move(Op.ADD, keys.project_final(project, after.state), score=created),
        Move(Op.ADD_AFTER, keys.final, score=retention),
    )
    if after.submission.expire_after is not None:
        listed = (*listed, Move(Op.REMOVE, keys.expiring))
    if after.submission.reuse is not None:
        listed = (*listed, *_offered(keys, after))
    if before.state is TaskState.RUNNING:
        member = lease_member(before.id, before.attempt)
        return (Move(Op.REMOVE, keys.leases, member), *listed)
    queue = after.submission.queue
    return (
        Move(Op.REMOVE, keys.ready(queue)),
        Move(Op.REMOVE, keys.delayed),
        *listed,
    )


def _offered(keys: Keys, task: Task) -> tuple[Move, ...]:
    """A success is offered to equal submissions, if the models ran that its digest is of.

    A worker may have read another catalogue than control had at the submission. What ended
    otherwise is no longer to be joined.
    """
    terms = task.submission.reuse
    if terms is None or task.state is not TaskState.SUCCEEDED or not ran(terms.models, task.output):
        return _not_offered(keys, task)
    entry = keys.reuse(task.submission.project, terms.digest)
    return (Move(Op.KEEP, entry, score=span(terms.ttl)),)


def _not_offered(keys: Keys, task: Task) -> tuple[Move, ...]:
    terms = task.submission.reuse
    if terms is None:
        return ()
    return (Move(Op.LET_GO, keys.reuse(task.submission.project, terms.digest)),)
