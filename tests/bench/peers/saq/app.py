"""SAQ behind FastAPI: `uvicorn app:api` serves, `saq app.settings` works."""

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
