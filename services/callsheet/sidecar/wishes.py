"""What the callbacks of tasks ask to be told, and what of a task's facts that is."""

from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event
from callsheet.ledger.deliveries import NewDelivery
from callsheet.ledger.delivery_model import line_of
from callsheet.ledger.store import Store
from callsheet.runtime.targets import callback_endpoint
from callsheet.v1 import task_pb2

#: The facts that end a task, which are always told, and what a webhook calls them.
FINAL_EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {"task_succeeded": "completed", "task_failed": "failed", "task_cancelled": "cancelled"}
)
#: The facts that are told where a callback asks for them: the wish, and what a webhook calls it.
ASKED_EVENTS: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "task_submitted": (task_pb2.CALLBACK_EVENT_QUEUED, "queued"),
        "attempt_started": (task_pb2.CALLBACK_EVENT_STARTED, "started"),
        "attempt_failed": (task_pb2.CALLBACK_EVENT_RETRYING, "retrying"),
        "attempt_returned": (task_pb2.CALLBACK_EVENT_RETRYING, "retrying"),
        "cancel_requested": (task_pb2.CALLBACK_EVENT_CANCELLED, "cancelled"),
    }
)
PROGRESS: Final = "progress"

#: Tasks whose wishes are remembered; of another one the first fact is read again.
_REMEMBERED: Final = 50_000


class Wish(NamedTuple):
    """What one task's callback asks for."""

    project: str
    #: When the task was accepted, in microseconds.
    create_time: int
    url: str
    line: str
    events: frozenset[int]

    @property
    def wants_progress(self) -> bool:
        """Whether progress is told too."""
        return task_pb2.CALLBACK_EVENT_PROGRESS in self.events

    def delivery(self, task_id: str, event: EventRecord) -> NewDelivery | None:
        """Return what the fact means for the callback; None: nothing."""
        fact = event.WhichOneof("fact") or ""
        word = FINAL_EVENTS.get(fact, "")
        is_final = bool(word)
        if not is_final:
            asked, word = ASKED_EVENTS.get(fact, (0, ""))
            if asked not in self.events:
                return None
        return NewDelivery(
            task_id=task_id,
            task_create_time=self.create_time,
            project=self.project,
            sequence=event.sequence,
            url=self.url,
            line=self.line,
            event=word,
            must_arrive=is_final,
        )


def wish_of(first: EventRecord) -> Wish | None:
    """Return what the callback of a task with that first fact asks for; None: it has none."""
    submitted = first.task_submitted
    url = submitted.callback.url
    if not url:
        return None
    line = line_of(submitted.project, callback_endpoint(url))
    return Wish(submitted.project, first.time, url, line, frozenset(submitted.callback.events))


class Wishes:
    """Remembers the wishes of tasks that live, as far as there is room."""

    def __init__(self, store: Store, *, remembered: int = _REMEMBERED) -> None:
        self._store = store
        self._remembered = remembered
        #: None: the task has no callback. Of an unknown task nothing is remembered.
        self._wishes: dict[str, Wish | None] = {}

    def note(self, task_id: str, event: EventRecord) -> None:
        """Remember the wish of a task whose first fact this is."""
        if event.WhichOneof("fact") == "task_submitted":
            self._keep(task_id, wish_of(event))

    async def learn(self, task_ids: Iterable[str]) -> None:
        """Read the wishes that are not remembered."""
        unknown = [each for each in dict.fromkeys(task_ids) if each not in self._wishes]
        if not unknown:
            return
        found = await self._store.read(unknown)
        for task_id, stored in zip(unknown, found, strict=True):
            if stored is not None:
                self._keep(task_id, wish_of(parse_event(stored.first)))

    def knows(self, task_id: str) -> bool:
        """Whether there is, or was, such a task; ask `learn` before."""
        return task_id in self._wishes

    def of(self, task_id: str) -> Wish | None:
        """Return the task's wish; None: it has none, or is not known."""
        return self._wishes.get(task_id)

    def trim(self) -> None:
        """Let the oldest go that there is no room for."""
        surplus = max(0, len(self._wishes) - self._remembered)
        for task_id in list(islice(self._wishes, surplus)):
            del self._wishes[task_id]

    def _keep(self, task_id: str, wish: Wish | None) -> None:
        self._wishes.pop(task_id, None)
        self._wishes[task_id] = wish
