"""taskiq behind FastAPI: `uvicorn app:api` serves, `taskiq worker app:broker` works."""

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
