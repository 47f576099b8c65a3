"""What clients tell one another: checked, and then told to every gateway."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from callsheet.client.errors import Violation
from callsheet.gateway.bodies import invalid
from callsheet.gateway.limits import RateLimit
from callsheet.gateway.problems import Refused
from callsheet.gateway.rooms.envelope import Publication, encode_fields
from callsheet.gateway.rooms.limits import PUBLISHED_BYTES, PUBLISHED_DEPTH, RoomLimits
from callsheet.gateway.rooms.line import RoomLine
from callsheet.gateway.rooms.room_names import RoomKind, RoomName
from callsheet.gateway.rooms.shared_rooms import rooms_away
from callsheet.gateway.side_redis import SideRedisAway

#: In which rooms each type is told; those of tasks tell what the log says, and nothing else.
_ANY: Final = frozenset({RoomKind.PROJECT, RoomKind.WORKFLOW, RoomKind.NETWORK})
ROOMS: Final[Mapping[str, frozenset[RoomKind]]] = MappingProxyType(
    {
        "WORKFLOW_UPDATE": frozenset({RoomKind.WORKFLOW, RoomKind.PROJECT}),
        "NETWORK_UPDATE": frozenset({RoomKind.NETWORK, RoomKind.PROJECT}),
        "COLLABORATION_UPDATE": _ANY,
        "NOTIFICATION": _ANY,
    }
)


class Sender(NamedTuple):
    """Who publishes."""

    key_id: str
    projects: frozenset[str]
    publishes: bool
    #: The connection it comes from; '' when it came by REST.
    connection: str = ""


class Told(NamedTuple):
    """The place an envelope was given; a sequence of zero: it takes none."""

    project: str
    epoch: str
    sequence: int


class Publishing:
    """Takes envelopes from connections and from REST alike."""

    def __init__(self, line: RoomLine, limits: RoomLimits) -> None:
        self._line = line
        rate = limits.published_per_second
        self._rate = RateLimit(per_second=rate, burst=2 * rate)

    async def publish(self, sender: Sender, publication: Publication) -> Told:
        """Tell a room, or one connection.

        Raises Refused: 400 for what fits no room or is too large, 403 without the role submit,
        404 for a project that is not the sender's, 429, 503 while Redis is away.
        """
        if not sender.publishes:
            raise Refused(HTTPStatus.FORBIDDEN, "ROLE_MISSING", "the key lacks the role submit")
        project = project_of(publication.project, publication.room, sender.projects)
        name = _target(publication, project)
        envelope = _envelope(sender, publication, project, name)
        self._rate.take(sender.key_id)
        try:
            if name is None:
                await self._line.tell(project, envelope, to=publication.to)
            elif publication.signal:
                await self._line.tell(project, envelope, room=name.text)
            else:
                return Told(project, *await self._line.publish(name, envelope))
        except SideRedisAway as error:
            raise rooms_away() from error
        return Told(project, "", 0)


def project_of(named: str, room: str, projects: frozenset[str]) -> str:
    """Return the project meant: the named one, that of the room, or the only one of the key.

    Raises Refused: 404 unless it is one of the key's, 400 when none is meant.
    """
    kind, _, id_ = room.partition(":")
    of_room = id_ if kind == RoomKind.PROJECT else ""
    if of_room and named not in ("", of_room):
        raise invalid([Violation("project", f"the room is that of project {of_room}")])
    meant = named or of_room or (next(iter(projects)) if len(projects) == 1 else "")
    if not meant:
        raise invalid([Violation("project", "is required: the key belongs to several")])
    if meant not in projects:
        raise Refused(
            HTTPStatus.NOT_FOUND, "PROJECT_NOT_FOUND", f"there is no project {meant} for this key"
        )
    return meant


def _target(publication: Publication, project: str) -> RoomName | None:
    """Return the room that is meant; None: it is one connection."""
    if bool(publication.room) == bool(publication.to):
        raise invalid([Violation("room", "exactly one of room and to is required")])
    if publication.to:
        return None
    name = RoomName.parse(publication.room, project=project)
    type_ = str(type(publication).__struct_config__.tag)
    if name.kind is RoomKind.TASK:
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "ROOM_READ_ONLY",
            "the room of a task tells what happens to the task, and nothing else",
        )
    if name.kind not in ROOMS[type_]:
        raise invalid([Violation("room", f"{type_} is not told in rooms of a {name.kind}")])
    return name


def _envelope(
    sender: Sender, publication: Publication, project: str, name: RoomName | None
) -> bytes:
    if _is_deeper(publication.data, PUBLISHED_DEPTH):
        raise invalid([Violation("data", f"is nested more than {PUBLISHED_DEPTH} deep")])
    type_ = str(type(publication).__struct_config__.tag)
    fields: dict[str, object] = {"type": type_, "project": project}
    said = dict(publication.data)
    if name is not None:
        fields["room"] = name.text
        if name.kind in (RoomKind.WORKFLOW, RoomKind.NETWORK):
            said.setdefault(f"{name.kind}_id", name.id)
    if sender.connection:
        fields["sender"] = sender.connection
    if publication.signal:
        fields["signal"] = True
    envelope = encode_fields({**fields, "data": said})
    if len(envelope) > PUBLISHED_BYTES:
        raise Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "MESSAGE_TOO_LARGE",
            f"what is published may have at most {PUBLISHED_BYTES} bytes",
        )
    return envelope


def _is_deeper(value: object, depth: int) -> bool:
    level: list[object] = [value]
    while level and depth >= 0:
        depth -= 1
        level = [inner for each in level for inner in _inside(each)]
    return bool(level)


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []
