"""A conversation and its turns, and how large they may be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

#: Turns kept of one conversation, and bytes of them; past either the oldest go.
MOST_TURNS: Final = 1_000
MOST_BYTES: Final = 256 * 1024
#: Bytes of what one turn says, and of a query and an answer.
CONTENT_BYTES: Final = 32 * 1024
QUERY_BYTES: Final = 8 * 1024
#: Entries of metadata, and characters of a name and a value.
METADATA_ENTRIES: Final = 32
METADATA_NAME: Final = 64
METADATA_VALUE: Final = 1024
#: Who may speak.
SPEAKERS: Final = ("user", "assistant", "system", "tool")

SHORTEST_LIFE: Final = timedelta(minutes=1)
LONGEST_LIFE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as it is; it is forgotten at expire_time, unless it is used before."""

    id: str
    project: str
    metadata: Mapping[str, str]
    time_to_live: timedelta
    create_time: datetime
    #: When the last turn was appended; create_time without any.
    update_time: datetime
    expire_time: datetime
    #: The sequence of the last turn. Zero: there is none.
    sequence: int
    #: The sequence of the oldest turn that is kept: one past the last when there is none.
    first_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What somebody said."""

    sequence: int
    speaker: str
    content: str
    create_time: datetime
    #: The client's own id of it. Empty: none.
    id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
