"""Who is alive, in Redis: workers, and the roles one holder has at a time."""

from datetime import timedelta
from typing import cast

from callsheet.ledger.index import CONTROL_KEPT, WORKER_WORD, Keys, lease_member
from callsheet.ledger.instants import span
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.registry import Wish
from callsheet.ledger.registry_scripts import HEARTBEAT, HOLD, RELEASE, WISH, WORKERS


class RedisRegistry:
    """Keeps the registry in Redis or Valkey, by its clock."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def heartbeat(self, worker: str, record: bytes) -> Wish | None:
        """Note that the worker lives, and what it says of itself; answer what is wished of it."""
        places = [self._keys.workers, self._keys.workers_seen, self._keys.worker_wishes]
        reply = await self._connection.script(HEARTBEAT, places, [worker, record])
        wish = cast("bytes", reply[0]).decode()
        return Wish(wish) if wish else None

    async def wish(self, worker: str, wish: Wish | None) -> bool:
        """Note what operators wish of a worker, and tell it so; False: there is no such worker."""
        places = [self._keys.workers, self._keys.worker_wishes, self._keys.control(worker)]
        word = lease_member(*WORKER_WORD)
        arguments = [worker, wish.value if wish else "", word, CONTROL_KEPT]
        return await self._connection.number(WISH, places, arguments) == 1

    async def forget_worker(self, worker: str) -> None:
        """Remove a worker that has ended, and its control list."""
        await self._connection.command("ZREM", self._keys.workers_seen, worker)
        await self._connection.command("HDEL", self._keys.workers, worker)
        await self._connection.command("HDEL", self._keys.worker_wishes, worker)
        await self._connection.command("HDEL", self._keys.offers, worker, f"{worker}=")
        await self._connection.command("DEL", self._keys.control(worker))

    async def workers(self, *, seen_within: timedelta) -> list[tuple[bytes, int]]:
        """Return (record, seen time) of each worker heard of lately; forgets the older ones."""
        places = [self._keys.workers, self._keys.workers_seen, self._keys.worker_wishes]
        places.append(self._keys.offers)
        reply = await self._connection.script(WORKERS, places, [span(seen_within)])
        pairs = cast("list[tuple[bytes, bytes]]", reply)
        return [(record, int(seen)) for record, seen in pairs]

    async def hold(self, role: str, holder: str, *, duration: timedelta) -> bool:
        """Take or renew a role that one holder has at a time; False: somebody else has it."""
        arguments = [holder, span(duration)]
        return await self._connection.number(HOLD, [self._keys.hold(role)], arguments) == 1

    async def release(self, role: str, holder: str) -> None:
        """Give a role up, if held."""
        await self._connection.number(RELEASE, [self._keys.hold(role)], [holder])
