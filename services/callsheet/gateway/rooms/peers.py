"""All connections of this process: how many there may be, and who is whose."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from callsheet.gateway.problems import Refused
from callsheet.gateway.rooms.limits import CloseCode, RoomLimits
from callsheet.gateway.rooms.peer import Peer

_NOBODY: Final[frozenset[Peer]] = frozenset()
_LATER: Final = timedelta(seconds=5)


class Peers:
    """Counts connections, and finds them by their id, their project and their key."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._connections = 0
        self._by_id: dict[str, Peer] = {}
        self._by_project: dict[str, set[Peer]] = {}
        self._by_credential: dict[str, set[Peer]] = {}
        self._of_key: Counter[str] = Counter()
        self._introducing: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return how many peers there are: connections that said who they are."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Peer]:
        """Return all peers as they are now."""
        return iter(tuple(self._by_id.values()))

    @property
    def connections(self) -> int:
        """How many connections there are, those included that did not say who they are yet."""
        return self._connections

    @contextmanager
    def connected(self) -> Generator[None]:
        """Count a connection while it lasts. Raises Refused when it is one too many."""
        if self._connections >= self._limits.connections:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "CONNECTIONS_EXHAUSTED",
                "this gateway has all the connections it takes",
                retry_after=_LATER,
            )
        self._connections += 1
        try:
            yield
        finally:
            self._connections -= 1

    @contextmanager
    def introducing(self, address: str) -> Generator[None]:
        """Count a connection until it says who it is. Raises Refused: its address has too many."""
        most = self._limits.introducing_per_address
        if self._introducing[address] >= most:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "CONNECTIONS_EXHAUSTED",
                f"{most} connections of one address may be without a key; send it in a header",
                retry_after=_LATER,
            )
        self._introducing[address] += 1
        try:
            yield
        finally:
            self._introducing[address] -= 1
            if not self._introducing[address]:
                del self._introducing[address]

    @contextmanager
    def present(self, peer: Peer) -> Generator[None]:
        """Know a peer while it is there. Raises Refused when its key has too many."""
        if self._of_key[peer.key_id] >= self._limits.connections_per_key:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "CONNECTIONS_EXHAUSTED",
                f"one key may have {self._limits.connections_per_key} connections",
                retry_after=_LATER,
            )
        self._of_key[peer.key_id] += 1
        self._by_id[peer.id] = peer
        self._by_credential.setdefault(peer.credential, set()).add(peer)
        self._enter(peer, peer.projects)
        try:
            yield
        finally:
            self._of_key[peer.key_id] -= 1
            if not self._of_key[peer.key_id]:
                del self._of_key[peer.key_id]
            del self._by_id[peer.id]
            _remove(self._by_credential, peer.credential, peer)
            self._exit(peer, peer.projects)

    def find(self, peer_id: str, *, project: str) -> Peer | None:
        """Return the peer of this id, if it belongs to the project."""
        peer = self._by_id.get(peer_id)
        return peer if peer is not None and project in peer.projects else None

    def of_project(self, project: str) -> Iterable[Peer]:
        """Return the peers that belong to a project."""
        return self._by_project.get(project, _NOBODY)

    def credentials(self) -> list[str]:
        """Return every key and ticket in use."""
        return list(self._by_credential)

    def of_credential(self, credential: str) -> tuple[Peer, ...]:
        """Return the peers that came with this key or ticket."""
        return tuple(self._by_credential.get(credential, ()))

    def belongs(self, peer: Peer, projects: frozenset[str]) -> None:
        """Make the peer belong to these projects and to no other."""
        self._exit(peer, peer.projects - projects)
        self._enter(peer, projects - peer.projects)
        peer.projects = projects

    def close_all(self, code: CloseCode, reason: str) -> None:
        """End every connection of a peer."""
        for peer in self._by_id.values():
            peer.outbox.close(code, reason)

    def _enter(self, peer: Peer, projects: frozenset[str]) -> None:
        for project in projects:
            self._by_project.setdefault(project, set()).add(peer)

    def _exit(self, peer: Peer, projects: frozenset[str]) -> None:
        for project in projects:
            _remove(self._by_project, project, peer)


def _remove(index: dict[str, set[Peer]], key: str, peer: Peer) -> None:
    index[key].discard(peer)
    if not index[key]:
        del index[key]
