"""What is remembered of one task: pure, and the same in whatever order its events come.

Each field keeps the rank of the event that told it, and only a higher rank changes it. So an event
that comes late fills in what nobody told before, and never moves the task back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from callsheet.embedded.brain.fields import microseconds
from callsheet.embedded.brain.messages import TaskEventWrite

#: The place of the epoch among all epochs, then the sequence within it.
Rank = tuple[int, int]

OUTCOMES: Final = frozenset({"succeeded", "failed", "cancelled"})

#: Fields that are remembered as they are told, by whichever event tells them.
_TOLD: Final = (
    "task_type",
    "text",
    "spec",
    "retry_of",
    "derived_from",
    "context",
    "usage",
    "quality",
    "metadata",
)
#: How an attempt ended, by the event that ends it.
_ATTEMPT_ENDINGS: Final[Mapping[str, str]] = {
    "retrying": "failed",
    "returned": "returned",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
#: Attempts past it are not remembered one by one.
MOST_ATTEMPTS: Final = 100


class Held(NamedTuple):
    """A value, and the rank of the event that told it."""

    rank: Rank
    value: Any


Fields = dict[str, Held]


class Fresh(NamedTuple):
    """What of a memory an event changed."""

    fields: frozenset[str]
    attempt: int | None


@dataclass(kw_only=True)
class Memory:
    """What is remembered of one task, its attempts by their number.

    *first_time* is that of its earliest event, in microseconds since 1970.
    """

    project: str
    task_id: str
    first_time: int
    fields: Fields = field(default_factory=dict[str, Held])
    attempts: dict[int, Fields] = field(default_factory=dict[int, Fields])

    def get(self, name: str) -> Any:  # noqa: ANN401  # JSON, as it was told
        """Return the field's value, or None when nobody told it."""
        held = self.fields.get(name)
        return held.value if held is not None else None

    @property
    def submit_time(self) -> int:
        """When it was submitted; as long as that is not known, the time of its first event."""
        return cast("int | None", self.get("submit_time")) or self.first_time

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why it failed, if that is how it stands."""
        return self.get("failure") if self.get("status") in {"failed", "cancelled"} else None

    @property
    def artifacts(self) -> list[str]:
        """The URIs of what it made."""
        made = cast("list[dict[str, Any]]", self.get("artifacts") or [])
        return [artifact["uri"] for artifact in made]

    def learn(self, event: TaskEventWrite, rank: Rank) -> Fresh:
        """Take in an event; return what it changed."""
        self.first_time = min(self.first_time, microseconds(event.time))
        fresh = _hold(self.fields, _told(event), rank) | self._add_media(event, rank)
        number = event.attempt
        if not 1 <= number <= MOST_ATTEMPTS:
            return Fresh(fresh, None)
        changed = _hold(self.attempts.setdefault(number, {}), _told_of_attempt(event), rank)
        return Fresh(fresh, number if changed else None)

    def _add_media(self, event: TaskEventWrite, rank: Rank) -> frozenset[str]:
        """Take in registered media: events tell what is new, so what they tell adds up."""
        if not event.media:
            return frozenset()
        held = self.fields.get("media")
        known = {each["uri"]: each for each in held.value} if held is not None else {}
        told = {each.uri: each.model_dump() for each in event.media}
        newer = held is None or held.rank < rank
        both = {**known, **told} if newer else {**told, **known}
        value = [both[uri] for uri in sorted(both)]
        if held is not None and value == held.value and not newer:
            return frozenset()
        self.fields["media"] = Held(max(rank, held.rank) if held is not None else rank, value)
        return frozenset({"media"})


@dataclass(kw_only=True)
class Changed:
    """A task that some events change, and what of it is to be written."""

    key: str
    memory: Memory
    is_new: bool
    fields: set[str] = field(default_factory=set[str])
    attempts: set[int] = field(default_factory=set[int])
    known_attempts: frozenset[int] = frozenset()


def task_key(project: str, task_id: str) -> str:
    """Return the key of a task's node."""
    return f"{project}/{task_id}"


def encode(memory: Memory) -> str:
    """Return the memory as text, without its spec and output, which stand beside it."""
    beside = {"spec", "output"}
    document = {
        "first_time": memory.first_time,
        "fields": {
            name: [*held.rank, None if name in beside else held.value]
            for name, held in memory.fields.items()
        },
        "attempts": {
            number: {name: [*held.rank, held.value] for name, held in fields.items()}
            for number, fields in memory.attempts.items()
        },
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def decode(text: str, *, project: str, task_id: str) -> Memory:
    """Return what encode wrote; spec and output are known by their ranks alone."""
    document = cast("dict[str, Any]", json.loads(text))
    return Memory(
        project=project,
        task_id=task_id,
        first_time=document["first_time"],
        fields=_fields(document["fields"]),
        attempts={
            int(number): _fields(fields)
            for number, fields in cast("dict[str, Any]", document["attempts"]).items()
        },
    )


def _fields(document: Mapping[str, list[Any]]) -> Fields:
    return {name: Held((told[0], told[1]), told[2]) for name, told in document.items()}


def _hold(fields: Fields, told: Mapping[str, Any], rank: Rank) -> frozenset[str]:
    newer = {
        name: Held(rank, value)
        for name, value in told.items()
        if name not in fields or fields[name].rank < rank
    }
    fields.update(newer)
    return frozenset(newer)


def _told(event: TaskEventWrite) -> dict[str, Any]:
    given = event.model_dump(mode="json", include=set(_TOLD), exclude_none=True)
    told: dict[str, Any] = {"status": event.status, "event": event.event, **given}
    if event.attempt:
        told["attempt"] = event.attempt
    if event.model is not None:
        told["model"] = event.model.model_dump()
    if event.artifacts is not None:
        told["artifacts"] = [artifact.model_dump() for artifact in event.artifacts]
    if event.event == "submitted":
        told["submit_time"] = microseconds(event.time)
    if event.event in OUTCOMES:
        # An outcome tells all of itself: what it does not name is not so.
        told["end_time"] = microseconds(event.time)
        told["failure"] = event.failure.model_dump() if event.failure is not None else None
        told["output"] = event.output
    elif event.output is not None:
        told["output"] = event.output
    return told


def _told_of_attempt(event: TaskEventWrite) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if event.event == "started":
        told["status"] = "processing"
        told["start_time"] = microseconds(event.time)
    if event.worker is not None:
        told["worker"] = event.worker
    if event.device is not None:
        told["device"] = event.device
    if event.failure is not None:
        told["failure"] = event.failure.model_dump()
    if event.event in _ATTEMPT_ENDINGS:
        told["status"] = _ATTEMPT_ENDINGS[event.event]
        told["end_time"] = microseconds(event.time)
    return told
