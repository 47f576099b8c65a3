"""A task as it was: what its facts up to a sequence fold to."""

from typing import Final

from callsheet.ledger.codec import event_of, parse_event
from callsheet.ledger.instants import instant
from callsheet.ledger.machine import fold
from callsheet.ledger.model import Task
from callsheet.ledger.store import Store

#: Facts read in one go.
_FACTS: Final = 256


async def task_as_of(store: Store, task_id: str, sequence: int) -> Task | None:
    """Return the task right after its fact of that sequence; None: the facts are gone."""
    facts: list[bytes] = []
    while len(facts) < sequence:
        limit = min(_FACTS, sequence - len(facts))
        found = await store.facts(task_id, after=len(facts), limit=limit)
        facts += found
        if len(found) < limit:
            return None
    records = [parse_event(fact) for fact in facts]
    return fold(task_id, [(event_of(record), instant(record.time)) for record in records])
