"""Conversations as the routes show them, and what their bodies must be."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from callsheet.client.errors import Violation
from callsheet.gateway.bodies import invalid
from callsheet.gateway.conversations.model import (
    METADATA_ENTRIES,
    METADATA_NAME,
    METADATA_VALUE,
    Conversation,
    Turn,
)

Json = dict[str, object]

_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_MESSAGE_ID: Final = re.compile(r"[!-~]{0,64}")
_TOKEN: Final = re.compile(r"[0-9]{1,19}")


def conversation_view(conversation: Conversation) -> Json:
    """Return a conversation without what was said."""
    return {
        "session_id": conversation.id,
        "project_id": conversation.project,
        "metadata": dict(conversation.metadata),
        "time_to_live": conversation.time_to_live.total_seconds(),
        "create_time": _time(conversation.create_time),
        "update_time": _time(conversation.update_time),
        "expire_time": _time(conversation.expire_time),
        "sequence": conversation.sequence,
        "first_sequence": conversation.first_sequence,
    }


def turn_view(turn: Turn) -> Json:
    """Return what somebody said."""
    return {
        "sequence": turn.sequence,
        "message_id": turn.id or None,
        "role": turn.speaker,
        "content": turn.content,
        "metadata": dict(turn.metadata),
        "create_time": _time(turn.create_time),
    }


def is_id(text: str) -> bool:
    """Whether a conversation may have this id."""
    return _ID.fullmatch(text) is not None


def checked_text(name: str, text: str, *, most: int) -> str:
    """Return a text of at most so many bytes, and not an empty one. Raises Refused."""
    if not text:
        raise invalid([Violation(name, "must not be empty")])
    if len(text.encode()) > most:
        raise invalid([Violation(name, f"must have at most {most} bytes")])
    return text


def checked_metadata(entries: Mapping[str, str]) -> Mapping[str, str]:
    """Return metadata of bounded size. Raises Refused."""
    if len(entries) > METADATA_ENTRIES:
        raise invalid([Violation("metadata", f"must have at most {METADATA_ENTRIES} entries")])
    for name, value in entries.items():
        if len(name) > METADATA_NAME or len(value) > METADATA_VALUE:
            wanted = f"names have at most {METADATA_NAME} characters, values {METADATA_VALUE}"
            raise invalid([Violation("metadata", wanted)])
    return entries


def checked_message_id(text: str) -> str:
    """Return a client's id of a message. Raises Refused."""
    if _MESSAGE_ID.fullmatch(text) is None:
        raise invalid([Violation("message_id", "must be at most 64 printable ASCII characters")])
    return text


def checked_token(text: str) -> str:
    """Return a page token. Raises Refused."""
    if text and _TOKEN.fullmatch(text) is None:
        raise invalid([Violation("page_token", "is not one of these")])
    return text


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
