"""taskiq behind FastAPI: `uvicorn app:api` serves, `taskiq worker app:broker` works."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel
from taskiq_redis import RedisStreamBroker
from witness import WITNESS

broker = RedisStreamBroker(url=f"unix://{os.environ['BENCH_REDIS_SOCKET']}")


class Submission(BaseModel):
    """What a caller asks for."""

    timed: bool = False


class Batch(BaseModel):
    """What a caller asks for who wants many."""

    count: int


@broker.task
async def nothing(*, timed: bool) -> None:
    """Do nothing, and have it noted."""
    WITNESS.ran(timed=timed)


@asynccontextmanager
async def connected(api: FastAPI) -> AsyncGenerator[None]:
    """Have the broker, and its stream's group, while the service is up."""
    del api
    await broker.startup()
    yield
    await broker.shutdown()


api = FastAPI(lifespan=connected)


@api.post("/tasks", status_code=202)
async def submit(submission: Submission) -> dict[str, str]:
    """Queue a task."""
    return {"id": (await nothing.kiq(timed=submission.timed)).task_id}


@api.post("/batches", status_code=202)
async def submit_many(batch: Batch) -> dict[str, list[str]]:
    """Queue many tasks, 64 at a time."""
    ids: list[str] = []
    for start in range(0, batch.count, 64):
        sent = [nothing.kiq(timed=False) for _ in range(min(64, batch.count - start))]
        ids += [each.task_id for each in await asyncio.gather(*sent)]
    return {"ids": ids}
