"""Writes events into the graph: each once, all of a batch in one transaction.

What the tasks of the batch are is read, folded in Python, and written back with one statement for
each kind of change, whatever the size of the batch.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from callsheet.embedded.brain.errors import BrainRefused, Reason
from callsheet.embedded.brain.fields import microseconds
from callsheet.embedded.brain.graph import Rows
from callsheet.embedded.brain.linking import link
from callsheet.embedded.brain.memory import Changed, Memory, Rank, decode, encode, task_key
from callsheet.embedded.brain.messages import EventsStored, TaskEventWrite
from callsheet.embedded.brain.pruning import forget_empty_projects

#: A ledger has a new epoch when it was restored; whoever sends more of them is no ledger.
MOST_EPOCHS: Final = 1_000
MOST_PROJECTS: Final = 10_000

_KNOWN_EVENTS: Final = "UNWIND $keys AS k MATCH (e:Event {key: k}) RETURN e.key"
_TASKS: Final = "UNWIND $keys AS k MATCH (t:Task {key: k}) RETURN t.key, t.status, t.memory"
_KNOWN_PROJECTS: Final = "UNWIND $names AS n MATCH (p:Project {name: n}) RETURN p.name"

# Numbers travel as text: a list of rows would otherwise be another statement to the graph for
# each width that its numbers happen to have.
_ADD_EVENTS: Final = """
UNWIND $rows AS r
CREATE (:Event {key: r.key, task: r.task, event: r.event, time: CAST(r.time AS INT64)})
"""
_ADD_TASKS: Final = """
UNWIND $rows AS r
MATCH (p:Project {name: r.project})
CREATE (p)-[:HAS]->(:Task {
  key: r.key, project: r.project, task_id: r.task_id, task_type: r.task_type, status: r.status,
  text: r.text, submit_time: CAST(r.submit_time AS INT64), memory: r.memory, spec: r.spec,
  output: r.output})
"""
_CHANGE_TASKS: Final = """
UNWIND $rows AS r
MATCH (t:Task {key: r.key})
SET t.task_type = r.task_type, t.status = r.status,
  t.submit_time = CAST(r.submit_time AS INT64), t.memory = r.memory
"""
_CHANGE_TEXTS: Final = """
UNWIND $rows AS r MATCH (t:Task {key: r.key}) SET t.text = r.text, t.vector = NULL
"""
_SET_SPECS: Final = "UNWIND $rows AS r MATCH (t:Task {key: r.key}) SET t.spec = r.json"
_SET_OUTPUTS: Final = "UNWIND $rows AS r MATCH (t:Task {key: r.key}) SET t.output = r.json"


def store_events(rows: Rows, events: Sequence[TaskEventWrite]) -> EventsStored:
    """Write the events that are not there yet. Raises BrainRefused when there is no room."""
    fresh = _not_yet_written(rows, events)
    if fresh:
        places = _places(rows, {event.epoch for event in fresh.values()})
        _add_projects(rows, {event.project for event in fresh.values()})
        tasks = _learned(_known_tasks(rows, fresh.values()), fresh.values(), places)
        _write_events(rows, fresh)
        _write_tasks(rows, tasks)
        link(rows, tasks)
    return EventsStored(written=len(fresh), repeated=len(events) - len(fresh))


def _not_yet_written(rows: Rows, events: Iterable[TaskEventWrite]) -> Mapping[str, TaskEventWrite]:
    # The first of two with the same key stands, in a batch as between batches.
    by_key: dict[str, TaskEventWrite] = {}
    for event in events:
        key = f"{task_key(event.project, event.task_id)}/{event.epoch}/{event.sequence}"
        by_key.setdefault(key, event)
    for (known,) in rows(_KNOWN_EVENTS, keys=list(by_key)):
        del by_key[known]
    return by_key


def _places(rows: Rows, epochs: set[str]) -> Mapping[str, int]:
    """Return the place of each epoch in the order in which the brain first heard of them."""
    places = cast("dict[str, int]", dict(rows("MATCH (e:Epoch) RETURN e.name, e.place")))
    for epoch in sorted(epochs - places.keys()):
        if len(places) >= MOST_EPOCHS:
            raise BrainRefused(Reason.LIMIT_REACHED, f"there are {MOST_EPOCHS} epochs already")
        places[epoch] = len(places) + 1
        rows("CREATE (:Epoch {name: $name, place: $place})", name=epoch, place=places[epoch])
    return places


def _add_projects(rows: Rows, projects: set[str]) -> None:
    new = _unknown_projects(rows, projects)
    if new and _count_projects(rows) + len(new) > MOST_PROJECTS:
        forget_empty_projects(rows)
        new = _unknown_projects(rows, projects)
        if (count := _count_projects(rows)) + len(new) > MOST_PROJECTS:
            raise BrainRefused(Reason.LIMIT_REACHED, f"there are {count} projects already")
    if new:
        rows("UNWIND $names AS n CREATE (:Project {name: n})", names=new)


def _unknown_projects(rows: Rows, projects: set[str]) -> list[str]:
    known = {name for (name,) in rows(_KNOWN_PROJECTS, names=sorted(projects))}
    return sorted(projects - known)


def _count_projects(rows: Rows) -> int:
    return cast("int", rows("MATCH (p:Project) RETURN count(*)")[0][0])


def _known_tasks(rows: Rows, events: Iterable[TaskEventWrite]) -> dict[str, Changed]:
    owners = {task_key(event.project, event.task_id): event for event in events}
    known: dict[str, Changed] = {}
    for key, _, text in rows(_TASKS, keys=list(owners)):
        owner = owners[key]
        memory = decode(text, project=owner.project, task_id=owner.task_id)
        attempts = frozenset(memory.attempts)
        known[key] = Changed(key=key, memory=memory, is_new=False, known_attempts=attempts)
    return known


def _learned(
    tasks: dict[str, Changed], events: Iterable[TaskEventWrite], places: Mapping[str, int]
) -> Sequence[Changed]:
    for event in events:
        key = task_key(event.project, event.task_id)
        task = tasks.get(key)
        if task is None:
            memory = Memory(
                project=event.project,
                task_id=event.task_id,
                first_time=microseconds(event.time),
            )
            task = tasks[key] = Changed(key=key, memory=memory, is_new=True)
        rank: Rank = (places[event.epoch], event.sequence)
        fresh = task.memory.learn(event, rank)
        task.fields |= fresh.fields
        if fresh.attempt is not None:
            task.attempts.add(fresh.attempt)
    return list(tasks.values())


def _write_events(rows: Rows, events: Mapping[str, TaskEventWrite]) -> None:
    rows(
        _ADD_EVENTS,
        rows=[
            {
                "key": key,
                "task": task_key(event.project, event.task_id),
                "event": event.event,
                "time": str(microseconds(event.time)),
            }
            for key, event in events.items()
        ],
    )


def _write_tasks(rows: Rows, tasks: Sequence[Changed]) -> None:
    new = [task for task in tasks if task.is_new]
    known = [task for task in tasks if not task.is_new]
    statements = (
        (_ADD_TASKS, [_all_columns(task) for task in new]),
        (_CHANGE_TASKS, [_columns(task) for task in known]),
        (_CHANGE_TEXTS, [_columns(task) for task in known if "text" in task.fields]),
        (_SET_SPECS, [_json_row(task, "spec") for task in known if "spec" in task.fields]),
        (_SET_OUTPUTS, [_json_row(task, "output") for task in known if "output" in task.fields]),
    )
    for statement, changes in statements:
        if changes:
            rows(statement, rows=changes)


def _columns(task: Changed) -> Mapping[str, str]:
    memory = task.memory
    return {
        "key": task.key,
        "project": memory.project,
        "task_id": memory.task_id,
        "task_type": memory.get("task_type") or "",
        "status": memory.get("status"),
        "text": memory.get("text") or "",
        "submit_time": str(memory.submit_time),
        "memory": encode(memory),
    }


def _all_columns(task: Changed) -> Mapping[str, str]:
    return {**_columns(task), "spec": _json(task, "spec"), "output": _json(task, "output")}


def _json_row(task: Changed, name: str) -> Mapping[str, str]:
    return {"key": task.key, "json": _json(task, name)}


def _json(task: Changed, name: str) -> str:
    value: Any = task.memory.get(name)
    return "" if value is None else json.dumps(value, ensure_ascii=False)
