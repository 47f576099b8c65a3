"""SAQ behind FastAPI: `uvicorn app:api` serves, `saq app.settings` works."""

import asyncio
import os
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue
from witness import WITNESS

queue = RedisQueue(Redis.from_url(f"unix://{os.environ['BENCH_REDIS_SOCKET']}"))
api = FastAPI()


class Submission(BaseModel):
    """What a caller asks for."""

    timed: bool = False


class Batch(BaseModel):
    """What a caller asks for who wants many."""

    count: int


async def nothing(_context: dict[str, Any], *, timed: bool) -> None:
    """Do nothing, and have it noted."""
    WITNESS.ran(timed=timed)


settings = {
    "queue": queue,
    "functions": [nothing],
    "concurrency": int(os.environ["BENCH_CONCURRENCY"]),
}


@api.post("/tasks", status_code=202)
async def submit(submission: Submission) -> dict[str, str]:
    """Queue a task."""
    job = await queue.enqueue("nothing", timed=submission.timed)
    if job is None:
        raise HTTPException(409)
    return {"id": job.key}


@api.post("/batches", status_code=202)
async def submit_many(batch: Batch) -> dict[str, list[str]]:
    """Queue many tasks, 64 at a time."""
    ids: list[str] = []
    for start in range(0, batch.count, 64):
        sent = [queue.enqueue("nothing", timed=False) for _ in range(min(64, batch.count - start))]
        jobs = await asyncio.gather(*sent)
        ids += [job.key for job in jobs if job is not None]
    if len(ids) < batch.count:
        raise HTTPException(409)
    return {"ids": ids}
