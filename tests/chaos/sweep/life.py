"""The scripted life of two tasks, played by every role from submission to oblivion.

One task fails, is retried after its back-off, succeeds and has its media noted; the other one is
cancelled while it runs. Their webhooks are sent, the brain is told, and they are pruned. The script
looks at what stands and lets do what is missing: it may be taken up anywhere by new processes.
"""

from typing import Final

from callsheet.ledger.graph_progress import READER as GRAPH_READER
from callsheet.ledger.graph_progress import ROLE as TELLER
from callsheet.ledger.ids import requested_task_id
from callsheet.ledger.model import Task, TaskState
from callsheet.sidecar.tailer import READER
from callsheet.sidecar.tailer import ROLE as TAILER
from callsheet.upkeep.upkeep import ROLE as UPKEEP
from tests.chaos.sweep import invariants, ledger_roles, sidecar_roles
from tests.chaos.sweep.ledger_roles import RETRIED, STOPPED
from tests.chaos.sweep.role import until_idle
from tests.chaos.sweep.seam import Meter, Point
from tests.chaos.sweep.world import Outside, World

#: What one fault may cost of them; without a fault the tasks end in the second.
ROUNDS: Final = 8


class Life:
    """One run of the script in a cell of its own; at *point* one role is struck.

    *generation* tells its processes from those that were in the cell before.
    """

    def __init__(
        self, outside: Outside, cell: str, point: Point | None = None, *, generation: str = ""
    ) -> None:
        may_lose = point is not None and _may_lose_an_attempt(point)
        self.world = World(
            outside,
            cell,
            generation=generation,
            may_lose_an_attempt=bool(generation) or may_lose,
        )
        self.point = point
        self._control = ledger_roles.control(self.world, point)
        self._worker = ledger_roles.worker(self.world, point)
        self._upkeep = ledger_roles.upkeep(self.world, point)
        self._tailer = sidecar_roles.tailer(self.world, point)
        self._registrar = sidecar_roles.registrar(self.world, point)
        self._courier = sidecar_roles.courier(self.world, point)
        self._teller = sidecar_roles.teller(self.world, point)

    @property
    def struck_role(self) -> str:
        """The role that is struck; nothing for an undisturbed life."""
        return "" if self.point is None else self.point.role

    @property
    def is_struck(self) -> bool:
        """Whether the point was reached."""
        return bool(self.struck_role) and self.meters[self.struck_role].has_struck

    @property
    def meters(self) -> dict[str, Meter]:
        """What each role asked of the server."""
        roles = (
            self._control,
            self._worker,
            self._upkeep,
            self._tailer,
            self._registrar,
            self._courier,
            self._teller,
        )
        return {role.name: role.meter for role in roles}

    async def live(self) -> None:
        """Play the script to its end, and check all that must hold there.

        Whoever was in the cell before is dead for long.
        """
        await self.world.expire_roles(UPKEEP, TAILER, TELLER)
        await self.world.expire_media()
        await self.world.expire_deliveries()
        await ledger_roles.submit(self._control, self.world)
        await self._until_final()
        await self._until_told()
        await invariants.check(self.world)
        await self._until_forgotten()
        await invariants.check_forgotten(self.world)

    async def _task(self, request: str) -> Task:
        return await self.world.plane.writer.read(requested_task_id("default", request))

    async def _until_final(self) -> None:
        for _ in range(ROUNDS):
            await self._worker.turn(lambda worker, seam: worker.claim(seam))
            stopped = await self._task(STOPPED)
            if stopped.state is TaskState.RUNNING and not stopped.cancel_requested:
                await ledger_roles.cancel(self._control, self.world, stopped.id)
            if self._worker.instance is not None and self._worker.instance.leases:
                await self._worker.turn(lambda worker, _: worker.listen())
            if all([(await self._task(request)).is_final for request in (RETRIED, STOPPED)]):
                return
            living = self._worker.instance.leases if self._worker.instance else set[str]()
            await self.world.expire_attempts(living)
            await self._upkeep.turn(lambda upkeep, _: upkeep.once())
        raise AssertionError(f"not final after {ROUNDS} rounds")

    async def _until_told(self) -> None:
        for _ in range(ROUNDS):
            await self._tailer.turn(lambda tailer, seam: until_idle(tailer.run, seam))
            await self._registrar.turn(lambda made, seam: until_idle(made.run, seam))
            await self._tailer.turn(lambda tailer, seam: until_idle(tailer.run, seam))
            await self._courier.turn(lambda courier, seam: until_idle(courier.run, seam))
            await self._teller.turn(lambda teller, seam: until_idle(teller.run, seam))
            if await self._is_told():
                return
            await self.world.expire_media()
            await self.world.expire_deliveries()
        raise AssertionError(f"not told after {ROUNDS} rounds")

    async def _is_told(self) -> bool:
        keys, store = self.world.keys, self.world.plane.store
        for waiting in (keys.media_due, keys.media_holds, keys.delivery_projects):
            if await store.count(waiting):
                return False
        end = await self.world.plane.log.end()
        cursors = await self.world.plane.log.cursors()
        return (cursors.get(READER), cursors.get(GRAPH_READER)) == (end, end)

    async def _until_forgotten(self) -> None:
        # What forgets deliveries does so when it starts, and then once a minute.
        await self._tailer.restart()
        for _ in range(ROUNDS):
            await self.world.outlive_retention()
            await self._tailer.turn(lambda tailer, seam: until_idle(tailer.run, seam))
            await self._upkeep.turn(lambda upkeep, _: upkeep.once())
            await self._worker.turn(lambda worker, seam: worker.claim(seam))
            await self._worker.turn(lambda worker, _: worker.leave())
            await self._worker.restart()
            await self._tailer.restart()
            if not await invariants.left_over(self.world):
                return


def _may_lose_an_attempt(point: Point) -> bool:
    return point.role == "worker" and (point.mode.is_death or not point.is_patient)
