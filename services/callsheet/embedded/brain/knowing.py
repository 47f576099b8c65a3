"""Writes what a project knows: passages, each from a source that has one."""

from collections.abc import Sequence
from typing import Final

from callsheet.embedded.brain.errors import BrainRefused, Reason
from callsheet.embedded.brain.graph import Rows
from callsheet.embedded.brain.messages import KnowledgeStored, StoreKnowledge
from callsheet.embedded.brain.schema import DIMENSIONS

MOST_PASSAGES: Final = 20_000
MOST_PASSAGES_OF_PROJECT: Final = 5_000

_STANDING: Final = "MATCH (k:Knowledge {key: $key}) RETURN k.text"
_COUNTS: Final = """
MATCH (k:Knowledge) RETURN count(*), sum(CASE WHEN k.project = $project THEN 1 ELSE 0 END)
"""
_ADD: Final = f"""
MERGE (p:Project {{name: $project}})
CREATE (p)-[:KNOWS]->(:Knowledge {{
  key: $key, project: $project, source: $source, text: $text,
  vector: CAST($vector AS FLOAT[{DIMENSIONS}])}})
"""
_REPLACE: Final = f"""
MATCH (k:Knowledge {{key: $key}})
SET k.text = $text, k.vector = CAST($vector AS FLOAT[{DIMENSIONS}])
"""


def store_knowledge(rows: Rows, asked: StoreKnowledge, vector: Sequence[float]) -> KnowledgeStored:
    """Keep a passage in place of the source's last one.

    Raises BrainRefused when there is no room.
    """
    key = f"{asked.project}/{asked.source}"
    standing = rows(_STANDING, key=key)
    if standing and standing[0][0] == asked.text:
        return KnowledgeStored(stored=False)
    if standing:
        rows(_REPLACE, key=key, text=asked.text, vector=vector)
        return KnowledgeStored(stored=True)
    _check_room(rows, asked.project)
    rows(
        _ADD,
        key=key,
        project=asked.project,
        source=asked.source,
        text=asked.text,
        vector=vector,
    )
    return KnowledgeStored(stored=True)


def _check_room(rows: Rows, project: str) -> None:
    total, own = rows(_COUNTS, project=project)[0]
    if total >= MOST_PASSAGES or (own or 0) >= MOST_PASSAGES_OF_PROJECT:
        raise BrainRefused(
            Reason.LIMIT_REACHED,
            f"there are {own or 0} passages of the project and {total} of all; "
            f"{MOST_PASSAGES_OF_PROJECT} and {MOST_PASSAGES} are kept",
        )
