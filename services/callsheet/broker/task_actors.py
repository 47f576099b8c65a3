"""One Dramatiq actor for each task type."""

from collections.abc import Callable, Iterable

import dramatiq

from callsheet.broker.broker import LedgerBroker
from callsheet.broker.feed import QUEUE


def declare_actors(
    broker: LedgerBroker, task_types: Iterable[str], perform: Callable[[str, int], None]
) -> None:
    """Declare an actor for each task type; it is called with a task's id and the attempt."""
    for task_type in task_types:
        # The broker is named: Dramatiq's global one stays untouched.
        declare = dramatiq.actor(broker=broker, actor_name=task_type, queue_name=QUEUE)
        declare(_actor(perform))


def _actor(perform: Callable[[str, int], None]) -> Callable[[str, int], None]:
    def run_attempt(task_id: str, attempt: int) -> None:
        perform(task_id, attempt)

    return run_attempt
