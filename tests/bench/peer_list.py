"""The peers, each in the configuration that its documentation advises and that did best here.

`python -m tests.bench.variants NAME` measures the others that were tried.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from redis.asyncio import Redis

from tests.bench.peer import Peer


async def _celery_unfinished(redis: Redis) -> int:
    return await redis.llen("celery") + await redis.hlen("unacked")


async def _dramatiq_unfinished(redis: Redis) -> int:
    return await redis.hlen("dramatiq:default.msgs")


async def _taskiq_unfinished(redis: Redis) -> int:
    (group,) = await redis.xinfo_groups("taskiq")
    return int(group["lag"] or 0) + int(group["pending"])


async def _saq_unfinished(redis: Redis) -> int:
    return await redis.zcard("saq:default:incomplete") + await redis.llen("saq:default:active")


def _celery_worker(*pool: str, prefetch: int = 128) -> tuple[str, ...]:
    words = ("celery", "--app", "app:tasks", "worker", "--loglevel", "warning")
    words += ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return (*words, "--prefetch-multiplier", str(prefetch), "--pool", *pool)


def _taskiq_worker(*options: str) -> tuple[str, ...]:
    words = ("taskiq", "worker", "app:broker", "--workers", "1", "--log-level", "WARNING")
    return (*words, "--ack-type", "when_executed", *options)


def _dramatiq_worker(threads: int) -> tuple[str, ...]:
    return ("dramatiq", "app", "--processes", "1", "--threads", str(threads))


_THREAD: Final = {"BENCH_ENDPOINT": "thread"}
_LOOP: Final = {"BENCH_ENDPOINT": "loop"}
#: Dramatiq's consumer looks again after at most so many milliseconds; its default is 1,000.
_EAGER: Final = {"dramatiq_worker_timeout": "10"}
#: And fetches so many messages ahead; its default is twice its threads.
_FAR: Final = {"dramatiq_queue_prefetch": "256"}

_CELERY: Final = Peer(
    name="celery",
    title="Celery 5 + FastAPI",
    configuration=(
        "Redis transport, acks_late, results ignored, solo pool, prefetch 128, no gossip, mingle"
        " or heartbeat; `delay` on FastAPI's threads, two uvicorn workers"
    ),
    worker=_celery_worker("solo"),
    unfinished=_celery_unfinished,
    servers=2,
    environment=_THREAD,
)
_DRAMATIQ: Final = Peer(
    name="dramatiq",
    title="Dramatiq + FastAPI",
    configuration=(
        "its own Redis broker and middleware, 8 threads, `dramatiq_worker_timeout` 10 ms,"
        " prefetch 256; `send` on the event loop"
    ),
    worker=_dramatiq_worker(8),
    unfinished=_dramatiq_unfinished,
    environment={**_LOOP, **_EAGER, **_FAR},
)
_TASKIQ: Final = Peer(
    name="taskiq",
    title="taskiq + FastAPI",
    configuration=(
        "RedisStreamBroker, acknowledged when executed, 100 async tasks at once;"
        " two uvicorn workers"
    ),
    worker=_taskiq_worker(),
    unfinished=_taskiq_unfinished,
    servers=2,
)
_SAQ: Final = Peer(
    name="saq",
    title="SAQ + FastAPI",
    configuration="Redis queue, concurrency 64",
    worker=("saq", "app.settings"),
    unfinished=_saq_unfinished,
    environment={"BENCH_CONCURRENCY": "64"},
)
PEERS: Final = (_CELERY, _DRAMATIQ, _TASKIQ, _SAQ)

#: What else was tried, by the peer's name and the variant's.
VARIANTS: Final[Mapping[str, Mapping[str, Peer]]] = MappingProxyType(
    {
        "celery": {
            "one uvicorn worker": replace(_CELERY, servers=1),
            "on the loop": replace(_CELERY, environment=_LOOP),
            "on the loop, one uvicorn worker": replace(_CELERY, environment=_LOOP, servers=1),
            "8 threads": replace(_CELERY, worker=_celery_worker("threads", "--concurrency", "8")),
            "prefork 1": replace(_CELERY, worker=_celery_worker("prefork", "--concurrency", "1")),
            "prefork 2": replace(_CELERY, worker=_celery_worker("prefork", "--concurrency", "2")),
            "prefetch 4": replace(_CELERY, worker=_celery_worker("solo", prefetch=4)),
            "prefetch without limit": replace(_CELERY, worker=_celery_worker("solo", prefetch=0)),
        },
        "dramatiq": {
            "default worker timeout": replace(_DRAMATIQ, environment={**_LOOP, **_FAR}),
            "on threads": replace(_DRAMATIQ, environment={**_THREAD, **_EAGER, **_FAR}),
            "two uvicorn workers": replace(_DRAMATIQ, servers=2),
            "default prefetch": replace(_DRAMATIQ, environment={**_LOOP, **_EAGER}),
            "2 threads": replace(_DRAMATIQ, worker=_dramatiq_worker(2)),
        },
        "taskiq": {
            "one uvicorn worker": replace(_TASKIQ, servers=1),
            "prefetch 100": replace(_TASKIQ, worker=_taskiq_worker("--max-prefetch", "100")),
            "no parsing": replace(_TASKIQ, worker=_taskiq_worker("--no-parse")),
        },
        "saq": {
            "two uvicorn workers": replace(_SAQ, servers=2),
            "concurrency 10": replace(_SAQ, environment={"BENCH_CONCURRENCY": "10"}),
        },
    }
)
