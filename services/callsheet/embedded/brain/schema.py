"""The tables of the graph.

    (Project)-[:HAS]->(Task)-[:PRODUCED]->(Artifact)
    (Task)-[:ATTEMPTED]->(Attempt)   (Task)-[:USED]->(Model)   (Task)-[:DERIVED_FROM]->(Task)
    (Project)-[:KNOWS]->(Knowledge)

Every key but an epoch's starts with the project, and no relation leaves one. An Event is there so
that it is written once; `memory` of a Task is what memory.encode wrote, and the columns beside it
are what tasks are found by. A Task without a status is only known as what another came from.
"""

from typing import Final

VERSION: Final = 1

#: What MiniLM makes of a text.
DIMENSIONS: Final = 384

_NODES: Final = {
    "Schema": "name STRING, version INT64, PRIMARY KEY (name)",
    "Epoch": "name STRING, place INT64, PRIMARY KEY (name)",
    "Project": "name STRING, PRIMARY KEY (name)",
    "Task": "key STRING, project STRING, task_id STRING, task_type STRING, status STRING, "
    "text STRING, submit_time INT64, memory STRING, spec STRING, output STRING, "
    f"vector FLOAT[{DIMENSIONS}], PRIMARY KEY (key)",
    "Event": "key STRING, task STRING, event STRING, time INT64, PRIMARY KEY (key)",
    "Attempt": "key STRING, number INT64, status STRING, worker STRING, device STRING, "
    "failure STRING, start_time INT64, end_time INT64, PRIMARY KEY (key)",
    "Artifact": "key STRING, uri STRING, sha256 STRING, media_type STRING, size_bytes INT64, "
    "PRIMARY KEY (key)",
    "Model": "key STRING, name STRING, revision STRING, PRIMARY KEY (key)",
    "Knowledge": "key STRING, project STRING, source STRING, text STRING, "
    f"vector FLOAT[{DIMENSIONS}], PRIMARY KEY (key)",
    "CachedResult": "key STRING, task_id STRING, result STRING, size INT64, expire_time INT64, "
    "PRIMARY KEY (key)",
}
_RELATIONS: Final = {
    "HAS": ("Project", "Task"),
    "ATTEMPTED": ("Task", "Attempt"),
    "PRODUCED": ("Task", "Artifact"),
    "DERIVED_FROM": ("Task", "Task"),
    "USED": ("Task", "Model"),
    "KNOWS": ("Project", "Knowledge"),
}

#: Makes what is not there yet.
SCHEMA: Final = (
    *(f"CREATE NODE TABLE IF NOT EXISTS {name}({columns})" for name, columns in _NODES.items()),
    *(
        f"CREATE REL TABLE IF NOT EXISTS {name}(FROM {start} TO {end})"
        for name, (start, end) in _RELATIONS.items()
    ),
)
