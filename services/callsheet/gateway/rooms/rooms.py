"""All rooms of this process: who may enter which, and how to leave."""

from http import HTTPStatus

from callsheet.gateway.plane import Plane
from callsheet.gateway.problems import Refused
from callsheet.gateway.rooms.envelope import Join, Leave
from callsheet.gateway.rooms.feed import joined, left
from callsheet.gateway.rooms.limits import RoomLimits
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.project_tasks import ProjectFeed, ProjectTasks
from callsheet.gateway.rooms.publishing import project_of
from callsheet.gateway.rooms.room_names import RoomKind, RoomName
from callsheet.gateway.rooms.shared_rooms import SharedRooms
from callsheet.gateway.rooms.task_rooms import TaskRooms


class Rooms:
    """Rooms of tasks are told by the plane's log, the others by the line between gateways."""

    def __init__(self, plane: Plane, shared: SharedRooms, limits: RoomLimits) -> None:
        self._limits = limits
        self._shared = shared
        self._tasks = TaskRooms(plane, limits)
        self._project_tasks = ProjectTasks(plane, limits)

    @property
    def watches(self) -> int:
        """How many streams of the plane are open for all members together."""
        return len(self._tasks) + len(self._project_tasks)

    @property
    def shared(self) -> SharedRooms:
        """The rooms that the line tells."""
        return self._shared

    async def join(self, peer: Peer, asked: Join) -> None:
        """Take a peer into a room, and answer it; who is in it already begins anew.

        Raises Refused and CallError; then nothing has changed, but that it may have left.
        """
        if not peer.reads:
            raise Refused(HTTPStatus.FORBIDDEN, "ROLE_MISSING", "the key lacks the role read")
        for name in self._found(peer, asked.room, asked.project):
            self.leave(peer, name)
        if len(peer.rooms) >= self._limits.rooms_per_connection:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "ROOMS_EXHAUSTED",
                f"a connection may be in {self._limits.rooms_per_connection} rooms",
            )
        if asked.room.startswith(f"{RoomKind.TASK}:"):
            await self._tasks.join(peer, asked)
        else:
            project = project_of(asked.project, asked.room, peer.projects)
            await self._join_shared(peer, RoomName.parse(asked.room, project=project), asked)

    def part(self, peer: Peer, asked: Leave) -> None:
        """Let a peer leave the room it names, and answer it; whoever is in none leaves none."""
        names = self._found(peer, asked.room, asked.project)
        for name in names:
            self.leave(peer, name)
        said = names[0] if names else RoomName.parse(asked.room, project=asked.project)
        peer.outbox.put(left(said, id_=asked.id))

    def leave(self, peer: Peer, name: RoomName) -> None:
        """Let a peer go."""
        match name.kind:
            case RoomKind.TASK:
                self._tasks.leave(peer, name)
            case RoomKind.TASKS:
                self._project_tasks.leave(peer, name.project)
            case RoomKind.PROJECT:
                self._project_tasks.leave(peer, name.project)
                self._shared.leave(peer, name)
            case RoomKind.WORKFLOW | RoomKind.NETWORK:
                self._shared.leave(peer, name)

    def leave_all(self, peer: Peer, *, of: frozenset[str] | None = None) -> None:
        """Let a peer go from every room, or from those of some projects, which it is told."""
        for name in tuple(peer.rooms):
            if of is None or name.project in of:
                self.leave(peer, name)
                if of is not None and name.kind is not RoomKind.TASKS:
                    reason = "the key does not belong to the project any more"
                    peer.outbox.put(left(name, reason="PROJECT_NOT_FOUND", message=reason))

    def close(self) -> None:
        """Watch the plane no more."""
        self._tasks.close()
        self._project_tasks.close()

    async def _join_shared(self, peer: Peer, name: RoomName, asked: Join) -> None:
        feed: ProjectFeed | None = None
        if name.kind is RoomKind.PROJECT and (asked.tasks or asked.cursor):
            feed = await self._project_tasks.open(peer, name.project, cursor=asked.cursor)
        try:
            place = await self._shared.join(peer, name, sequence=asked.sequence, epoch=asked.epoch)
        except Refused:
            self._project_tasks.leave(peer, name.project)
            raise
        if feed is not None:  # the cursor may have turned out to be none
            await self._project_tasks.begun(feed, peer)
        begin = feed.place(asked.cursor) if feed is not None else None
        peer.outbox.put(
            joined(
                name,
                id_=asked.id,
                sequence=place.sequence,
                epoch=place.epoch,
                cursor=begin.cursor if begin is not None else "",
                missed=place.missed or (begin is not None and begin.missed),
            )
        )
        for text in place.texts:
            peer.outbox.put(text)
        if feed is not None:
            feed.join(peer, cursor=asked.cursor)

    @staticmethod
    def _found(peer: Peer, room: str, project: str) -> list[RoomName]:
        """Return the rooms of that name which the peer is in."""
        return [name for name in peer.rooms if name.text == room and project in ("", name.project)]
