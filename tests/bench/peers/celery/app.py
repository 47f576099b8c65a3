"""Celery behind FastAPI: `uvicorn app:api` serves, `celery --app app:tasks worker` works."""

import os

from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel
from witness import WITNESS

tasks = Celery("peer", broker=f"redis+socket://{os.environ['BENCH_REDIS_SOCKET']}")
tasks.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    # A connection for every thread that FastAPI has.
    broker_pool_limit=64,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)
api = FastAPI()


class Submission(BaseModel):
    """What a caller asks for."""

    timed: bool = False


class Batch(BaseModel):
    """What a caller asks for who wants many."""

    count: int


@tasks.task
def nothing(*, timed: bool) -> None:
    """Do nothing, and have it noted."""
    WITNESS.ran(timed=timed)


def submit(submission: Submission) -> dict[str, str]:
    """Queue a task from one of FastAPI's threads."""
    return {"id": nothing.delay(timed=submission.timed).id}


async def submit_on_loop(submission: Submission) -> dict[str, str]:
    """Queue a task on the event loop, which waits for it."""
    return submit(submission)


def submit_many(batch: Batch) -> dict[str, list[str]]:
    """Queue many tasks over one producer, from one of FastAPI's threads."""
    with tasks.producer_or_acquire() as producer:
        asked = {"timed": False}
        sent = [nothing.apply_async((), asked, producer=producer) for _ in range(batch.count)]
    return {"ids": [each.id for each in sent]}


api.post("/batches", status_code=202)(submit_many)
ENDPOINTS = {"thread": submit, "loop": submit_on_loop}
api.post("/tasks", status_code=202)(ENDPOINTS[os.environ["BENCH_ENDPOINT"]])
