"""What the routes of conversations and rooms take and answer, for the OpenAPI document."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from callsheet.gateway.conversations.model import (
    CONTENT_BYTES,
    LONGEST_LIFE,
    METADATA_ENTRIES,
    METADATA_NAME,
    METADATA_VALUE,
    QUERY_BYTES,
    SHORTEST_LIFE,
    SPEAKERS,
)
from callsheet.gateway.json_schemas import Schema
from callsheet.gateway.rest_operations import JSON, Contents, Operation
from callsheet.gateway.rest_schemas import (
    ANYTHING,
    COUNT,
    NUMBER,
    TEXT,
    TEXTS,
    TIME,
    YES_NO,
    list_of,
    obj,
    or_null,
)
from callsheet.gateway.rooms.publishing import ROOMS

_NOTHING: Final[Contents] = MappingProxyType({})
_PROJECT: Final[Schema] = {"type": "string", "maxLength": 64}
_METADATA: Final[Schema] = {
    "type": "object",
    "maxProperties": METADATA_ENTRIES,
    "propertyNames": {"maxLength": METADATA_NAME},
    "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE},
}
#: Limits are in bytes; in characters, as schemas count, they are a quarter at the least.
_CONTENT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": CONTENT_BYTES}
_QUERY: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": QUERY_BYTES}
_LIFE: Final[Schema] = {
    "type": "number",
    "minimum": SHORTEST_LIFE.total_seconds(),
    "maximum": LONGEST_LIFE.total_seconds(),
}
_SESSION: Final = obj(
    {
        "session_id": TEXT,
        "project_id": TEXT,
        "metadata": TEXTS,
        "time_to_live": NUMBER,
        "create_time": TIME,
        "update_time": TIME,
        "expire_time": TIME,
        "sequence": COUNT,
        "first_sequence": COUNT,
    }
)
_MESSAGE: Final = obj(
    {
        "sequence": COUNT,
        "message_id": or_null(TEXT),
        "role": {"enum": list(SPEAKERS)},
        "content": TEXT,
        "metadata": TEXTS,
        "create_time": TIME,
    }
)
_ONE: Final = "/api/v1/sessions/{session_id}"


def _json(schema: Schema) -> Contents:
    return {JSON: schema}


_CONVERSATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/api/v1/sessions"): Operation(
        tag="sessions",
        body=_json(obj({}, {"project_id": _PROJECT, "metadata": _METADATA, "time_to_live": _LIFE})),
        body_required=False,
        answers={201: _json(_SESSION)},
    ),
    ("GET", "/api/v1/sessions"): Operation(
        tag="sessions",
        query={
            "project_id": _PROJECT,
            "page_size": {"type": "integer", "minimum": 1, "maximum": 200},
            "page_token": {"type": "string", "pattern": "^[0-9]{0,19}$"},
        },
        answers={200: _json(obj({"sessions": list_of(_SESSION), "next_page_token": TEXT}))},
    ),
    ("GET", _ONE): Operation(tag="sessions", answers={200: _json(_SESSION)}),
    ("DELETE", _ONE): Operation(tag="sessions", answers={204: _NOTHING}),
    ("POST", f"{_ONE}/messages"): Operation(
        tag="sessions",
        body=_json(
            obj(
                {"role": {"enum": list(SPEAKERS)}, "content": _CONTENT},
                {
                    "message_id": {"type": "string", "pattern": "^[!-~]{0,64}$"},
                    "metadata": _METADATA,
                },
            )
        ),
        answers={201: _json(_MESSAGE)},
    ),
    ("GET", f"{_ONE}/messages"): Operation(
        tag="sessions",
        query={"after": COUNT, "limit": {"type": "integer", "minimum": 1, "maximum": 1000}},
        headers={"If-None-Match": TEXT},
        answers={
            200: _json(
                obj(
                    {
                        "session_id": TEXT,
                        "messages": list_of(_MESSAGE),
                        "sequence": COUNT,
                        "first_sequence": COUNT,
                        "stale": YES_NO,
                    }
                )
            ),
            304: _NOTHING,
        },
    ),
    ("POST", f"{_ONE}/query"): Operation(
        tag="sessions",
        body=_json(obj({"query": _QUERY})),
        answers={
            200: _json(
                obj(
                    {
                        "cached": YES_NO,
                        "answer": or_null(TEXT),
                        "sequence": COUNT,
                        "cache": {"enum": ["asked", "unavailable"]},
                    }
                )
            )
        },
    ),
    ("POST", f"{_ONE}/answers"): Operation(
        tag="sessions",
        body=_json(obj({"query": _QUERY, "answer": _CONTENT}, {"sequence": COUNT})),
        answers={200: _json(obj({"kept": YES_NO, "sequence": COUNT}))},
    ),
}

_ROOMS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/api/v1/rooms/messages"): Operation(
        tag="rooms",
        body=_json(
            obj(
                {"type": {"enum": list(ROOMS)}},
                {
                    "id": {"type": "string", "maxLength": 64},
                    "project": _PROJECT,
                    "room": {"type": "string", "maxLength": 160},
                    "to": {"type": "string", "maxLength": 64},
                    "signal": YES_NO,
                    "data": ANYTHING,
                },
            )
        ),
        answers={202: _json(obj({"project": TEXT, "epoch": TEXT, "sequence": COUNT}))},
    )
}

#: What is known of each route of rooms and conversations, by method and path.
BESIDE: Final[Mapping[tuple[str, str], Operation]] = MappingProxyType({**_CONVERSATIONS, **_ROOMS})
