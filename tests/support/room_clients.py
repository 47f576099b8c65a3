"""Clients of the rooms for tests: a real WebSocket, spoken to in envelopes."""

import asyncio
import json
import socket as sockets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from callsheet.gateway.rooms.outbox import Outbox
from callsheet.gateway.rooms.peer import Peer
from callsheet.gateway.rooms.rate import Bucket
from callsheet.gateway.rooms.wire import Wire
from tests.support.gateways import RunningGateway

#: The longest a test waits for what must come.
PATIENCE = 30.0

Envelope = dict[str, Any]


class RoomClient:
    """One connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._asked = 0

    async def say(self, type_: str, **fields: object) -> str:
        """Send an envelope with an id of its own; return the id."""
        self._asked += 1
        id_ = f"ask-{self._asked}"
        await self.socket.send(json.dumps({"type": type_, "id": id_, **fields}))
        return id_

    async def hear(self) -> Envelope:
        """Return the next envelope."""
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self.socket.recv())

    async def heard(self, *types: str) -> Envelope:
        """Return the next envelope of one of these types, and pass over the others."""
        while (envelope := await self.hear())["type"] not in types:
            pass
        return envelope

    async def ask(self, type_: str, **fields: object) -> Envelope:
        """Send an envelope; return what it is answered with, and pass over all else."""
        id_ = await self.say(type_, **fields)
        while (envelope := await self.hear()).get("id") != id_:
            pass
        return envelope

    async def refused(self, type_: str, **fields: object) -> Envelope:
        """Send an envelope that must be refused; return what the ERROR says."""
        answer = await self.ask(type_, **fields)
        assert answer["type"] == "ERROR", answer
        return answer["data"]

    async def join(self, room: str, **fields: object) -> Envelope:
        """Join a room; return the JOINED."""
        answer = await self.ask("JOIN", room=room, **fields)
        assert answer["type"] == "JOINED", answer
        return answer

    async def ended(self) -> int:
        """Wait until the server has ended the connection; return the code it gave."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.socket.recv()
                except ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd is not None else 1006


@asynccontextmanager
async def room_client(
    host: str, key: str = "", *, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[RoomClient]:
    """Yield a connection to a gateway; with a key it is sent in the header."""
    sent = {**({"x-api-key": key} if key else {}), **(headers or {})}
    async with connect(
        f"ws://{host}/ws",
        additional_headers=sent,
        proxy=None,
        compression=None,
        max_size=2**24,
        max_queue=None,
        ping_interval=None,
        close_timeout=1,
        open_timeout=PATIENCE,
    ) as socket:
        yield RoomClient(socket)


@asynccontextmanager
async def present(host: str, key: str) -> AsyncGenerator[RoomClient]:
    """Yield a connection that was let in."""
    async with room_client(host, key) as client:
        assert (await client.hear())["type"] == "WELCOME"
        yield client


def wires(gateway: RunningGateway) -> list[Wire]:
    """Return the gateway's side of every WebSocket."""
    connections = gateway.gateway.server._uvicorn.server_state.connections  # pyright: ignore[reportPrivateUsage]  # there is no other way to its side
    return [each for each in connections if isinstance(each, Wire)]


def narrow(gateway: RunningGateway) -> None:
    """Let the system keep little of what the gateway sends, so that a stuck reader is soon felt."""
    for wire in wires(gateway):
        raw = wire.transport.get_extra_info("socket")
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 4096)


def some_peer(outbox: Outbox, *, heard: float = 0.0) -> Peer:
    """Return a connection of the default project that nobody has, with this outbox."""
    return Peer(
        id="p1",
        credential="k",
        key_id="k",
        projects=frozenset({"default"}),
        roles=frozenset(),
        outbox=outbox,
        bucket=Bucket(per_second=1, burst=1, now=0.0),
        heard=heard,
        pinged=heard,
    )
