"""How much one connection, one key and one process may take of the rooms."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Final

#: The longest text a client may send, in bytes; the server closes the connection of a longer one.
MESSAGE_BYTES: Final = 64 * 1024
#: The longest envelope that may be published, in bytes: rooms keep some of them.
PUBLISHED_BYTES: Final = 16 * 1024
#: How deep what is published may be nested.
PUBLISHED_DEPTH: Final = 32


class CloseCode(IntEnum):
    """Why the server ended a connection."""

    #: A binary message; envelopes are text.
    NOT_TEXT = 1003
    #: A defect of the server.
    INTERNAL = 1011
    #: The server ends; connect again, perhaps to another one.
    GOING_AWAY = 1012
    #: No valid key in time, or it was revoked or has expired.
    UNAUTHENTICATED = 4401
    #: Nothing was heard from the client for too long.
    SILENT = 4408
    #: The client went on sending, however often it was told not to.
    RATE_LIMITED = 4429
    #: The client took its messages slower than they came.
    SLOW_READER = 4430
    #: This process, or the key, has all the connections it may have.
    TOO_MANY_CONNECTIONS = 4431


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLimits:
    """The limits of the rooms of one process."""

    #: Connections of the process, and of one key in it.
    connections: int = 12_000
    connections_per_key: int = 2_000
    #: Connections of one address that have not said who they are.
    introducing_per_address: int = 256
    #: Rooms one connection may be in.
    rooms_per_connection: int = 64
    #: Tasks watched at the same time by the process, for all connections together.
    tasks_watched: int = 512
    #: Projects whose tasks are watched, likewise.
    projects_watched: int = 128
    #: Messages a connection may send a second in the long run, and four times as many at once.
    messages_per_second: int = 20
    #: Envelopes published by one key a second in the long run, and twice as many at once.
    published_per_second: int = 200
    #: How often a client is asked for a sign of life; silent for three times as long, it is gone.
    heartbeat: timedelta = timedelta(seconds=30)
    #: How long a client may take to say who it is.
    sign_in: timedelta = timedelta(seconds=10)
    #: How long one message may take to leave, and the goodbye after it.
    send: timedelta = timedelta(seconds=10)
    #: How often it is asked whether the keys of open connections still hold.
    key_check: timedelta = timedelta(seconds=5)
    #: Envelopes, and characters of them, that wait for one connection.
    waiting: int = 512
    waiting_characters: int = 2 * 2**20
    #: What a room keeps for those who come back: envelopes, bytes of them, and for how long.
    kept: int = 64
    kept_bytes: int = 64 * 1024
    kept_time: timedelta = timedelta(minutes=15)
    #: Rooms of one project that keep anything at the same time.
    rooms_per_project: int = 512
    #: Refused messages in a row after which a connection is closed.
    refusals: int = 200

    @property
    def silence(self) -> timedelta:
        """How long a client may say nothing."""
        return 3 * self.heartbeat
