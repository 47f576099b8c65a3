"""Who takes part in the side-by-side, and who cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from callsheet.embedded.valkey import AppendFsync
from tests.bench.callsheet_stack import open_callsheet
from tests.bench.comparison import EMPTY, OURS
from tests.bench.contender import Contender
from tests.bench.floor import open_bare_redis, open_empty_handler
from tests.bench.peer import Peer, open_peer
from tests.bench.peer_list import PEERS

DURABILITIES: Final[tuple[AppendFsync, ...]] = ("always", "everysec")
BARE_REDIS: Final = "redis-set"


def contenders() -> list[Contender]:
    """Return all that can take part; those with the same durability follow each other."""
    return [_empty_handler(), *(who for d in DURABILITIES for who in _under(d))]


def names() -> tuple[str, ...]:
    """Return the names by which contenders are chosen."""
    return (EMPTY, BARE_REDIS, OURS, *(peer.name for peer in PEERS))


def left_out(wanted: Sequence[str]) -> dict[str, str]:
    """Return the wanted peers that cannot take part, with the reason."""
    return {
        peer.title: f"its environment, {peer.environment_folder}, could not be installed"
        for peer in PEERS
        if peer.name in wanted and not peer.is_installed
    }


def _under(durability: AppendFsync) -> Iterator[Contender]:
    yield _bare_redis(durability)
    yield _callsheet(durability)
    yield from (peer_contender(peer, durability) for peer in PEERS if peer.is_installed)


def _callsheet(durability: AppendFsync) -> Contender:
    return Contender(
        name=OURS,
        title="Callsheet",
        durability=durability,
        configuration=(
            "control, upkeep, workers with 32 slots; every fact of a task is durable before it is"
            " acknowledged; gRPC, one channel"
        ),
        open=partial(open_callsheet, durability),
    )


def peer_contender(peer: Peer, durability: AppendFsync) -> Contender:
    """Return a peer under one durability."""
    return Contender(
        name=peer.name,
        title=peer.title,
        durability=durability,
        configuration=peer.configuration,
        open=partial(open_peer, peer, durability),
        in_flight=peer.in_flight,
    )


def _bare_redis(durability: AppendFsync) -> Contender:
    return Contender(
        name=BARE_REDIS,
        title="bare Valkey SET",
        durability=durability,
        configuration="300 bytes, redis-py with hiredis on uvloop, a connection for each caller",
        open=partial(open_bare_redis, durability),
    )


def _empty_handler() -> Contender:
    return Contender(
        name=EMPTY,
        title="empty grpc.aio handler",
        durability=None,
        configuration="on uvloop; answers an empty message and stores nothing",
        open=open_empty_handler,
    )
