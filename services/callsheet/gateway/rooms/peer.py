"""One connection: who it is, which rooms it is in, and what it has not been sent yet."""

from dataclasses import dataclass, field

from callsheet.gateway.rooms.outbox import Outbox
from callsheet.gateway.rooms.rate import Bucket
from callsheet.gateway.rooms.room_names import RoomName
from callsheet.v1.access_service_pb2 import ROLE_READ, ROLE_SUBMIT


@dataclass(slots=True, eq=False, kw_only=True)
class Peer:
    """A connection whose key was recognised."""

    #: What others may address it by; not to be guessed.
    id: str
    credential: str
    key_id: str
    projects: frozenset[str]
    roles: frozenset[int]
    outbox: Outbox
    bucket: Bucket
    #: When something was heard of it, and when it was last asked for a sign of life.
    heard: float
    pinged: float
    rooms: set[RoomName] = field(default_factory=set[RoomName])
    #: Messages refused without one in between that was not.
    refused: int = 0

    @property
    def reads(self) -> bool:
        """Whether it may be told of tasks."""
        return ROLE_READ in self.roles

    @property
    def publishes(self) -> bool:
        """Whether it may tell others something."""
        return ROLE_SUBMIT in self.roles
