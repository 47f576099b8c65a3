"""Draws what tasks have to do with: attempts, artifacts, models, and the tasks they came from."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from callsheet.embedded.brain.graph import Rows
from callsheet.embedded.brain.memory import Changed, Fields, Memory, encode, task_key

Row = Mapping[str, str]

# Numbers travel as text, as in `remembering`.
_ADD_ATTEMPTS: Final = """
UNWIND $rows AS r
MATCH (t:Task {key: r.task})
CREATE (t)-[:ATTEMPTED]->(:Attempt {
  key: r.key, number: CAST(r.number AS INT64), status: r.status, worker: r.worker,
  device: r.device, failure: r.failure, start_time: CAST(r.start_time AS INT64),
  end_time: CAST(r.end_time AS INT64)})
"""
_CHANGE_ATTEMPTS: Final = """
UNWIND $rows AS r
MATCH (a:Attempt {key: r.key})
SET a.status = r.status, a.worker = r.worker, a.device = r.device, a.failure = r.failure,
  a.start_time = CAST(r.start_time AS INT64), a.end_time = CAST(r.end_time AS INT64)
"""
_KNOWN_ARTIFACTS: Final = "UNWIND $keys AS k MATCH (a:Artifact {key: k}) RETURN a.key"
# Merging nodes would look through all of them: 0.6 ms a row among 50,000.
_ADD_ARTIFACTS: Final = """
UNWIND $rows AS r
MATCH (t:Task {key: r.task})
CREATE (t)-[:PRODUCED]->(:Artifact {
  key: r.key, uri: r.uri, sha256: r.sha256, media_type: r.media_type,
  size_bytes: CAST(r.size_bytes AS INT64)})
"""
_LINK_ARTIFACTS: Final = """
UNWIND $rows AS r
MATCH (t:Task {key: r.task}), (a:Artifact {key: r.key})
MERGE (t)-[:PRODUCED]->(a)
"""
_LINK_MODELS: Final = """
UNWIND $rows AS r
MATCH (t:Task {key: r.task})
MERGE (m:Model {key: r.key})
SET m.name = r.name, m.revision = r.revision
MERGE (t)-[:USED]->(m)
"""
_KNOWN_ANCESTORS: Final = "UNWIND $keys AS k MATCH (t:Task {key: k}) RETURN t.key"
_ADD_ANCESTORS: Final = """
UNWIND $rows AS r
MATCH (p:Project {name: r.project})
CREATE (p)-[:HAS]->(:Task {
  key: r.key, project: r.project, task_id: r.task_id, task_type: '', status: '', text: '',
  submit_time: CAST(r.submit_time AS INT64), memory: r.memory, spec: '', output: ''})
"""
_LINK_ANCESTORS: Final = """
UNWIND $rows AS r
MATCH (t:Task {key: r.task}), (a:Task {key: r.key})
MERGE (t)-[:DERIVED_FROM]->(a)
"""


def link(rows: Rows, tasks: Sequence[Changed]) -> None:
    """Write the attempts that changed, and the relations that are new; the tasks are there."""
    ancestors, made = list(_ancestors(tasks)), list(_artifacts(tasks))
    new_ancestors = _unknown(rows, ancestors, _KNOWN_ANCESTORS)
    new = _unknown(rows, made, _KNOWN_ARTIFACTS)
    statements = (
        (_ADD_ATTEMPTS, _attempts(tasks, new=True)),
        (_CHANGE_ATTEMPTS, _attempts(tasks, new=False)),
        (_ADD_ARTIFACTS, new.values()),
        (_LINK_ARTIFACTS, (row for row in made if new.get(row["key"]) is not row)),
        (_LINK_MODELS, _models(tasks)),
        (_ADD_ANCESTORS, new_ancestors.values()),
        (_LINK_ANCESTORS, ancestors),
    )
    for statement, drawn in statements:
        if changes := list(drawn):
            rows(statement, rows=changes)


def _attempts(tasks: Iterable[Changed], *, new: bool) -> Iterator[Row]:
    for task in tasks:
        for number in sorted(task.attempts):
            if (number in task.known_attempts) is not new:
                yield _attempt(task, number, task.memory.attempts[number])


def _attempt(task: Changed, number: int, fields: Fields) -> Row:
    def told(name: str) -> Any:  # noqa: ANN401  # JSON, as it was told
        return fields[name].value if name in fields else None

    failure = told("failure")
    return {
        "task": task.key,
        "key": f"{task.key}#{number}",
        "number": str(number),
        "status": told("status") or "",
        "worker": told("worker") or "",
        "device": told("device") or "",
        "failure": json.dumps(failure, ensure_ascii=False) if failure else "",
        "start_time": str(told("start_time") or 0),
        "end_time": str(told("end_time") or 0),
    }


def _artifacts(tasks: Iterable[Changed]) -> Iterator[Row]:
    for task in tasks:
        if "artifacts" in task.fields:
            made = {artifact["uri"]: artifact for artifact in task.memory.get("artifacts")}
            for uri, artifact in made.items():
                yield {
                    "task": task.key,
                    "key": f"{task.memory.project}/{uri}",
                    "uri": uri,
                    "sha256": artifact["sha256"],
                    "media_type": artifact["media_type"],
                    "size_bytes": str(artifact["size_bytes"]),
                }


def _unknown(rows: Rows, drawn: Sequence[Row], known: str) -> Mapping[str, Row]:
    """Return by its key the first row of each node that is not there yet."""
    by_key = {row["key"]: row for row in reversed(drawn)}
    if by_key:
        for (key,) in rows(known, keys=list(by_key)):
            del by_key[key]
    return by_key


def _models(tasks: Iterable[Changed]) -> Iterator[Row]:
    for task in tasks:
        if "model" in task.fields:
            model = task.memory.get("model")
            name, revision = model["name"], model["revision"]
            yield {
                "task": task.key,
                "key": f"{task.memory.project}/{json.dumps([name, revision])}",
                "name": name,
                "revision": revision,
            }


def _ancestors(tasks: Iterable[Changed]) -> Iterator[Row]:
    """Yield the tasks that others came from, which may not be known yet, or no longer."""
    for task in tasks:
        memory = task.memory
        fresh = task.fields & {"retry_of", "derived_from"}
        told: set[str] = {memory.get(name) or "" for name in fresh}
        for ancestor in sorted(told - {""}):
            unknown = Memory(project=memory.project, task_id=ancestor, first_time=memory.first_time)
            yield {
                "task": task.key,
                "key": task_key(memory.project, ancestor),
                "project": memory.project,
                "task_id": ancestor,
                "submit_time": str(memory.first_time),
                "memory": encode(unknown),
            }
