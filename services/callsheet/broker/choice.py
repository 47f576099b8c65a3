"""Which of the tasks that wait for a device is next, and which others run together with it.

To load a model takes as long as many attempts, and one forward pass carries several items in little
more than the time of one. So a task whose model is warm may go before others, and tasks may join
one that they can be run together with. The others are overtaken: for a while, never for longer.
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


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is next; the first of them decides what they have in common."""

    taken: tuple[Waiting, ...]
    overtaken: tuple[Waiting, ...]
    """Who stood before one of them, and goes on waiting."""


def choose(
    waiting: Sequence[Waiting], *, warm: Collection[str], bucket: int, patience: timedelta
) -> Choice:
    """Return who is next of those that wait, the most urgent first; at least one of them.

    *warm* are the models that need no loading; at most *bucket* tasks are run together. Nobody is
    overtaken once he has been overtaken for as long as *patience*, and nobody at all with none; nor
    is anybody by a less urgent one for the sake of its model.
    """
    overdue = [each for each in waiting if _is_overdue(each, patience)]
    first = overdue[0] if overdue else _first(waiting, warm=warm)
    taken = [first, *_joining(first, waiting, patience=patience)][: max(1, bucket)]
    last = max(waiting.index(each) for each in taken)
    overtaken = [each for each in waiting[:last] if each not in taken]
    return Choice(tuple(taken), tuple(overtaken))


def _first(waiting: Sequence[Waiting], *, warm: Collection[str]) -> Waiting:
    head = waiting[0]
    as_urgent = (
        each
        for each in waiting
        if (each.queue, each.priority) == (head.queue, head.priority) and each.model in warm
    )
    return next(as_urgent, head)


def _joining(
    first: Waiting, waiting: Sequence[Waiting], *, patience: timedelta
) -> Sequence[Waiting]:
    """Return who may run together with the first one, and overtakes nobody who is overdue."""
    if not first.batch_key:
        return ()
    joining: list[Waiting] = []
    is_held_up = False
    for each in waiting:
        if each is first:
            continue
        is_overdue = _is_overdue(each, patience)
        if each.batch_key != first.batch_key:
            is_held_up = is_held_up or is_overdue
        elif not is_held_up:
            joining.append(each)
    return joining


def _is_overdue(waiting: Waiting, patience: timedelta) -> bool:
    if not patience:
        return True
    return waiting.overtaken_for is not None and waiting.overtaken_for >= patience
