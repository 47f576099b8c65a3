"""The roles of the sidecar: tailer, registrar of media, courier, and teller of the brain."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from callsheet.ledger.deliveries import Deliveries
from callsheet.ledger.graph_progress import ROLE as TELLER
from callsheet.ledger.graph_progress import GraphProgress
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.model import RegisteredMedia, Task
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.webhook_registry import WebhookRegistry
from callsheet.sidecar.brain_sink import BrainSink
from callsheet.sidecar.brain_source import FactSource
from callsheet.sidecar.courier import Courier, Terms
from callsheet.sidecar.credentials import Credentials
from callsheet.sidecar.media_gate import MediaGate
from callsheet.sidecar.media_registrar import Registrar, RegistrarTerms
from callsheet.sidecar.media_uploads import MediaUploads, Registration
from callsheet.sidecar.sending import Sender
from callsheet.sidecar.tailer import ROLE as TAILER
from callsheet.sidecar.tailer import Tailer
from tests.chaos.sweep.role import Role
from tests.chaos.sweep.seam import Point, Seam
from tests.chaos.sweep.world import World, plane_of
from tests.support.sidecars import MASTER_KEY

#: Longer than any run: time passes only where the script lets it.
_HOUR: Final = timedelta(hours=1)
#: Nothing in the script is reused: no time to live is counted from it.
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
#: How many words the replies of claims have.
_MEDIA_CLAIM: Final = 4
_DELIVERY_CLAIM: Final = 7
_MOMENT: Final = timedelta(milliseconds=5)


def tailer(world: World, point: Point | None) -> Role[Tailer]:
    """Return the role that turns facts into deliveries."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> Tailer:
        del seam
        plane = plane_of(connection, world.cell)
        return Tailer(
            log=plane.log,
            store=plane.store,
            registry=plane.registry,
            deliveries=Deliveries(connection, plane.keys),
            keys=plane.keys,
            holder=name,
            hold=_HOUR,
            media=MediaGate(MediaWork(connection, plane.keys), plane.store, wait=_HOUR),
            recorded=lambda _: None,
        )

    return Role(world, "tailer", make, point=point, parks_from=_MOMENT, holds=(TAILER,))


class _CannedUploads:
    """Answers at once that everything is registered, as PayloadCMS would."""

    async def register(self, task: Task) -> Registration:
        """Return one document."""
        return Registration((RegisteredMedia(f"s3://films/{task.id}.png", "7"),), None)


def registrar(world: World, point: Point | None) -> Role[Registrar]:
    """Return the role that notes the media of tasks."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> Registrar:
        del name
        plane = plane_of(connection, world.cell)

        async def is_idle(reply: object) -> bool:
            if not await world.command("EXISTS", plane.keys.media_due):
                return True
            # Or a claim took nothing: {now, expire, next due, taken}.
            return _words(reply) == _MEDIA_CLAIM and not _word(reply, 3)

        seam.is_idle = is_idle
        return Registrar(
            MediaWork(connection, plane.keys),
            plane.writer,
            cast("MediaUploads", _CannedUploads()),
            terms=RegistrarTerms(schedule=(_MOMENT,), lease=_HOUR, retention=_HOUR),
            jitter=lambda: 0.5,
        )

    return Role(world, "registrar", make, point=point)


def courier(world: World, point: Point | None) -> Role[Courier]:
    """Return the role that sends webhooks."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> Courier:
        del name
        plane = plane_of(connection, world.cell)

        async def is_idle(reply: object) -> bool:
            if not await world.command("EXISTS", plane.keys.delivery_projects):
                return True
            # Or a claim took nothing: {now, expire, taken, version, lines, projects, next due}.
            return _words(reply) == _DELIVERY_CLAIM and not any(
                _word(reply, each) for each in (2, 4, 5)
            )

        seam.is_idle = is_idle
        registry = WebhookRegistry(connection, plane.keys)
        credentials = Credentials(registry, master_key=MASTER_KEY)
        return Courier(
            Deliveries(connection, plane.keys),
            Sender(world.outside.poster, credentials, allow_http=True),
            credentials,
            terms=Terms(schedule=(_MOMENT,) * 3, lease=_HOUR, retention=_HOUR),
            jitter=lambda: 0.5,
        )

    return Role(world, "courier", make, point=point)


def teller(world: World, point: Point | None) -> Role[BrainSink]:
    """Return the role that tells the brain."""

    def make(connection: RedisConnection, name: str, seam: Seam) -> BrainSink:
        del seam
        plane = plane_of(connection, world.cell)
        return BrainSink(
            brain=world.outside.brain,
            log=plane.log,
            source=FactSource(plane.store, plane.keys),
            progress=GraphProgress(connection, plane.keys),
            registry=plane.registry,
            holder=name,
            hold=_HOUR,
            now=lambda: _NOW,
        )

    return Role(
        world, "teller", make, point=point, parks_from=timedelta(seconds=1), holds=(TELLER,)
    )


def _words(reply: object) -> int:
    return len(cast("Sequence[object]", reply)) if isinstance(reply, list) else 0


def _word(reply: object, place: int) -> object:
    return cast("Sequence[object]", reply)[place]
