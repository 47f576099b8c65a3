"""Which of the tasks that wait for a device is next, and which others run together with it.

To load a model takes as long as many attempts, and one forward pass carries several items in little
more than the time of one. So a task whose model is warm may go before others, and tasks may join
one that they can be run together with. The others are overtaken: for a while, never for longer, and
never by a less urgent one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that is ready, as far as the choice goes."""

    task_id: str
    queue: int
    """By which its tasks are asked for: the first queues come first."""
    priority: int
    model: str = ""
    """The model it needs. Empty: none that is known."""
    batch_key: str = ""
    """Equal for tasks that may be run together. Empty: it runs alone."""
    overtaken_for: timedelta | None = None
    """How long ago it was first overtaken. None: it was not."""

    def is_overdue(self, patience: timedelta) -> bool:
        """Whether nobody may overtake it any more."""
        if not patience:
            return True
        return self.overtaken_for is not None and self.overtaken_for >= patience


def preferred(
    waiting: Sequence[Waiting], *, warm: Collection[str], patience: timedelta
) -> Sequence[Waiting]:
    """Return who is next, and behind him the others as they wait, the most urgent first.

    Among those who are as urgent as the first of all, next is who is overdue, and else whose model
    is *warm*, which means that it needs no loading.
    """
    head = waiting[0]
    equals = [
        each for each in waiting if (each.queue, each.priority) == (head.queue, head.priority)
    ]
    overdue = next((each for each in equals if each.is_overdue(patience)), None)
    first = overdue or next((each for each in equals if each.model in warm), head)
    return [first, *(each for each in waiting if each is not first)]


def company(
    first: Waiting, waiting: Sequence[Waiting], *, bucket: int, patience: timedelta
) -> Sequence[Waiting]:
    """Return who runs together with the first one, so that they are *bucket* at the most.

    They pass nobody who is more urgent, and nobody who is overdue unless they are so, too.
    """
    if not first.batch_key:
        return ()
    joining: list[Waiting] = []
    passed: list[Waiting] = []
    for each in waiting:
        if len(joining) + 1 >= bucket:
            break
        if each is first:
            continue
        if each.batch_key == first.batch_key and all(
            _may_pass(each, other, patience=patience) for other in passed
        ):
            joining.append(each)
        else:
            passed.append(each)
    return joining


def overtaken(taken: Collection[Waiting], waiting: Sequence[Waiting]) -> Sequence[Waiting]:
    """Return who stood before one of those that were taken, and goes on waiting."""
    last = max((place for place, each in enumerate(waiting) if each in taken), default=0)
    return [each for each in waiting[:last] if each not in taken]


def _may_pass(passing: Waiting, other: Waiting, *, patience: timedelta) -> bool:
    as_urgent = (passing.queue, passing.priority) == (other.queue, other.priority)
    return (
        bool(patience)
        and as_urgent
        and (passing.is_overdue(patience) or not other.is_overdue(patience))
    )
