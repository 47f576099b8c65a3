"""What a room is called: a project, a kind, and the id of what it is about."""

from enum import StrEnum
from typing import Final, NamedTuple

#: They end with \\Z, because $ would let a line end through, which parts addresses on the line.
#: Rooms that are not of a project, a workflow, a network or a task do not exist.
ROOM_PATTERN: Final = (
    r"^(task:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|project:[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}"
    r"|(workflow|network):[a-zA-Z0-9][a-zA-Z0-9._-]{0,127})\Z"
)
PROJECT_PATTERN: Final = r"^([a-zA-Z0-9][a-zA-Z0-9_-]{0,63})?\Z"


class RoomKind(StrEnum):
    """What a room is about."""

    TASK = "task"
    PROJECT = "project"
    WORKFLOW = "workflow"
    NETWORK = "network"
    #: What happens to the tasks of a project: a part of the project's room, never named by clients.
    TASKS = "tasks"


class RoomName(NamedTuple):
    """A room: rooms of two projects are two rooms, whatever they are called."""

    project: str
    kind: RoomKind
    id: str

    @property
    def text(self) -> str:
        """The name as envelopes have it, such as ``workflow:w1``."""
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str, *, project: str) -> "RoomName":
        """Return the room that a text of ROOM_PATTERN names, in this project."""
        kind, _, id_ = text.partition(":")
        return cls(project, RoomKind(kind), id_)
