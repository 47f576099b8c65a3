"""The tasks there are when somebody begins to watch many: those that fit, newest first."""

import pytest

from callsheet.ledger import snapshots
from callsheet.ledger.model import Task, TaskState
from callsheet.ledger.snapshots import Snapshots, WatchFilter
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.ledgers import OWNER, STRANGER, Cell, ping
from tests.support.work import started, succeeded

_S = TaskState
_IMAGE = TaskSpec(generate_image=GenerateImageInput(prompt="a lighthouse")).SerializeToString()


async def taken(
    plane: Cell, wanted: WatchFilter | None = None, *, size: int = 100
) -> tuple[list[str], bool]:
    """Return the ids of a snapshot, and whether it has more."""
    wanted = wanted or WatchFilter("default")
    snapshot = Snapshots(plane.store, plane.keys).take(wanted, size=size)
    ids = [reading.task.id async for reading in snapshot.readings()]
    return ids, snapshot.has_more


async def tasks_in_every_state(plane: Cell) -> dict[TaskState, Task]:
    """Return a task of each state but FAILED, oldest first."""
    made = {
        state: await plane.ledger.submit(OWNER, ping())
        for state in (_S.PENDING, _S.RUNNING, _S.SUCCEEDED, _S.CANCELLED)
    }
    await started(plane, made[_S.RUNNING].id)
    await succeeded(plane, made[_S.SUCCEEDED].id)
    await plane.ledger.cancel(OWNER, made[_S.CANCELLED].id, reason="")
    return made


async def test_a_snapshot_has_the_project_s_tasks_newest_first(plane: Cell) -> None:
    made = await tasks_in_every_state(plane)
    await plane.ledger.submit(STRANGER, ping())
    assert await taken(plane) == ([task.id for task in made.values()][::-1], False)


@pytest.mark.parametrize(
    "states",
    [
        {_S.PENDING},
        {_S.RUNNING},
        {_S.PENDING, _S.RUNNING},
        {_S.RUNNING, _S.SUCCEEDED},
        {_S.PENDING, _S.SUCCEEDED, _S.CANCELLED},
        {_S.FAILED},
        set(_S),
    ],
    ids=lambda states: "+".join(sorted(state.value for state in states)),
)
async def test_a_snapshot_has_the_tasks_in_those_states(
    plane: Cell, states: set[TaskState]
) -> None:
    made = await tasks_in_every_state(plane)
    wanted = WatchFilter("default", states=frozenset(states))
    ids, _ = await taken(plane, wanted)
    assert ids == [task.id for state, task in made.items() if state in states][::-1]


async def test_a_snapshot_has_the_tasks_of_those_types(plane: Cell) -> None:
    image = await plane.ledger.submit(OWNER, ping(spec=_IMAGE, task_type="generate_image"))
    pinged = await plane.ledger.submit(OWNER, ping())
    for types, ids in (
        ({"ping"}, [pinged.id]),
        ({"generate_image"}, [image.id]),
        ({"ping", "generate_image"}, [pinged.id, image.id]),
    ):
        wanted = WatchFilter("default", task_types=frozenset(types))
        assert await taken(plane, wanted) == (ids, False)
        both = WatchFilter("default", frozenset({_S.PENDING}), frozenset(types))
        assert await taken(plane, both) == (ids, False)


async def test_a_snapshot_has_the_named_tasks_that_are_the_project_s(plane: Cell) -> None:
    made = [await plane.ledger.submit(OWNER, ping()) for _ in range(3)]
    foreign = await plane.ledger.submit(STRANGER, ping())
    named = frozenset({made[0].id, made[2].id, foreign.id, "unknown"})
    wanted = WatchFilter("default", task_ids=named)
    assert await taken(plane, wanted) == ([made[2].id, made[0].id], False)


@pytest.mark.parametrize("size", [0, 1, 4, 5])
async def test_a_snapshot_has_no_more_than_were_asked_for_and_says_so(
    plane: Cell, size: int
) -> None:
    made = [await plane.ledger.submit(OWNER, ping()) for _ in range(4)]
    ids, has_more = await taken(plane, size=size)
    assert ids == [task.id for task in made[::-1][:size]]
    assert has_more == (size < 4)


async def test_a_snapshot_of_many_reads_page_after_page(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "CHUNK", 3)
    made = [await plane.ledger.submit(OWNER, ping()) for _ in range(10)]
    for task in made[::2]:
        await succeeded(plane, task.id)
    states = frozenset({_S.PENDING, _S.SUCCEEDED})
    ids, has_more = await taken(plane, WatchFilter("default", states))
    assert (ids, has_more) == ([task.id for task in made[::-1]], False)


async def test_a_snapshot_looks_at_so_many_and_says_that_there_may_be_more(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LOOKED_AT", 3)
    made = [await plane.ledger.submit(OWNER, ping()) for _ in range(5)]
    image = frozenset({"generate_image"})
    wanted = WatchFilter("default", frozenset({_S.PENDING}), image)
    assert await taken(plane, wanted) == ([], True)
    assert (await taken(plane))[0] == [task.id for task in made[:1:-1]]
