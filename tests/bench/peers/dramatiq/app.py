"""Dramatiq's own Redis broker behind FastAPI: `uvicorn app:api` serves, `dramatiq app` works."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from fastapi import FastAPI
from pydantic import BaseModel
from witness import WITNESS

broker = RedisBroker(url=f"unix://{os.environ['BENCH_REDIS_SOCKET']}")
dramatiq.set_broker(broker)
api = FastAPI()


class Submission(BaseModel):
    """What a caller asks for."""

    timed: bool = False


class Batch(BaseModel):
    """What a caller asks for who wants many."""

    count: int


@dramatiq.actor
def nothing(*, timed: bool) -> None:
    """Do nothing, and have it noted."""
    WITNESS.ran(timed=timed)


def submit(submission: Submission) -> dict[str, str]:
    """Queue a task from one of FastAPI's threads."""
    return {"id": nothing.send(timed=submission.timed).message_id}


async def submit_on_loop(submission: Submission) -> dict[str, str]:
    """Queue a task on the event loop, which waits for it."""
    return submit(submission)


def submit_many(batch: Batch) -> dict[str, list[str]]:
    """Queue many tasks from one of FastAPI's threads."""
    return {"ids": [nothing.send(timed=False).message_id for _ in range(batch.count)]}


api.post("/batches", status_code=202)(submit_many)
ENDPOINTS = {"thread": submit, "loop": submit_on_loop}
api.post("/tasks", status_code=202)(ENDPOINTS[os.environ["BENCH_ENDPOINT"]])
