"""OperationsService: pausing queues and workers, draining, performance and readers."""

from datetime import timedelta

from grpc import StatusCode

from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.catalog import queues
from callsheet.ledger.index import WORKER_WORD
from callsheet.ledger.performance import Counters
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.registry import Wish
from callsheet.upkeep.performance_tally import PerformanceTally
from callsheet.v1.operations_service_pb2 import (
    PERFORMANCE_WINDOW_DAY,
    DrainWorkerRequest,
    GetPerformanceRequest,
    GetPerformanceResponse,
    ListLogReadersRequest,
    ListQueuesRequest,
    PauseQueueRequest,
    PauseWorkerRequest,
    ResumeQueueRequest,
    ResumeWorkerRequest,
    Worker,
)
from callsheet.v1.task_pb2 import WAIT_REASON_NO_WORKER, WAIT_REASON_PAUSED, WaitReason
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import Client, Plane, ping_request, refusal
from tests.support.work import succeeded

A_SECOND = timedelta(seconds=1)


async def _alive(plane: Plane, worker: Worker) -> Wish | None:
    record = WorkerRecord(version=1, worker=worker)
    return await plane.cell.registry.heartbeat(worker.id, record.SerializeToString())


async def _why(client: Client, task_id: str) -> WaitReason.ValueType:
    request = GetTaskRequest(task_id=task_id)
    return (await client.tasks.GetTask(request, metadata=client.metadata)).task.wait_reason


async def test_a_queue_is_paused_and_resumed(client: Client) -> None:
    task_id = await client.submit()
    pausing, resuming = PauseQueueRequest(queue="system"), ResumeQueueRequest(queue="system")
    paused = await client.operations.PauseQueue(pausing, metadata=client.metadata)
    assert (paused.queue.name, paused.queue.ready) == ("system", 1)
    assert paused.queue.HasField("pause_time")
    assert await _why(client, task_id) == WAIT_REASON_PAUSED
    listed = await client.operations.ListQueues(ListQueuesRequest(), metadata=client.metadata)
    assert [queue.name for queue in listed.queues if queue.HasField("pause_time")] == ["system"]
    resumed = await client.operations.ResumeQueue(resuming, metadata=client.metadata)
    assert not resumed.queue.HasField("pause_time")
    assert await _why(client, task_id) == WAIT_REASON_NO_WORKER


async def test_an_unknown_queue_is_not_found(client: Client) -> None:
    request = PauseQueueRequest(queue="nobody")
    told = await refusal(client.operations.PauseQueue(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND")
    assert told.metadata == {"queue": "nobody"}


async def test_a_worker_is_told_what_is_wished_of_it(plane: Plane, client: Client) -> None:
    worker = Worker(id="h:1/ab", queues=["system"])
    await _alive(plane, worker)
    calls = client.operations
    paused = await calls.PauseWorker(
        PauseWorkerRequest(worker_id=worker.id), metadata=client.metadata
    )
    assert paused.worker.id == worker.id
    assert await plane.cell.store.await_control(worker.id, timeout=A_SECOND) == (WORKER_WORD)
    assert await _alive(plane, worker) is Wish.PAUSE
    await calls.DrainWorker(DrainWorkerRequest(worker_id=worker.id), metadata=client.metadata)
    assert await _alive(plane, worker) is Wish.DRAIN
    await calls.ResumeWorker(ResumeWorkerRequest(worker_id=worker.id), metadata=client.metadata)
    assert await _alive(plane, worker) is None


async def test_an_unknown_worker_is_not_found(client: Client) -> None:
    request = DrainWorkerRequest(worker_id="nobody")
    told = await refusal(client.operations.DrainWorker(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "WORKER_NOT_FOUND")


async def test_what_a_worker_runs_for_another_project_is_not_told(
    plane: Plane, client: Client
) -> None:
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    theirs = await stranger.submit()
    await _alive(plane, Worker(id="w-1", running_task_ids=[theirs]))
    request = PauseWorkerRequest(worker_id="w-1")
    answered = await client.operations.PauseWorker(request, metadata=client.metadata)
    assert list(answered.worker.running_task_ids) == []


async def _performance(client: Client, **wanted: object) -> GetPerformanceResponse:
    request = GetPerformanceRequest(**wanted)  # pyright: ignore[reportArgumentType]  # the message checks its values at run time
    return await client.operations.GetPerformance(request, metadata=client.metadata)


async def test_performance_is_told_by_type_queue_and_time(plane: Plane, client: Client) -> None:
    nothing = await _performance(client)
    assert (list(nothing.task_types), nothing.HasField("counted_time")) == ([], False)
    assert [queue.name for queue in nothing.queues] == sorted(queues())
    await succeeded(plane.cell, await client.submit())
    await client.submit(ping_request())
    tally = PerformanceTally(
        plane.cell.store,
        plane.cell.log,
        plane.cell.registry,
        Counters(RedisConnection(plane.redis), plane.cell.keys),
        keys=plane.cell.keys,
        catalog=plane.cell.catalog,
    )
    await tally.run_once()
    hour, day = await _performance(client), await _performance(client, window=2)
    assert PERFORMANCE_WINDOW_DAY == 2
    for found, buckets, seconds in ((hour, 60, 60), (day, 96, 900)):
        (pings,) = found.task_types
        assert (pings.task_type, pings.queue) == ("ping", "system")
        assert (pings.total.submitted, pings.total.succeeded) == (2, 1)
        assert (pings.total.failed, pings.total.failure_rate) == (0, 0.0)
        assert pings.total.mean_run == pings.total.max_run
        assert pings.total.HasField("mean_wait")
        assert sum(bucket.measures.submitted for bucket in pings.buckets) == 2
        assert found.bucket_length.seconds == seconds
        length = found.end_time.seconds - found.start_time.seconds
        assert length == buckets * seconds
        (system,) = (queue for queue in found.queues if queue.name == "system")
        assert (system.total.mean_ready, system.total.max_ready) == (1.0, 1)
        assert found.HasField("counted_time")


async def test_another_project_s_performance_is_not_there(plane: Plane) -> None:
    told = await refusal(_performance(plane.client, project="elsewhere"))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")


async def test_the_readers_of_the_log_are_listed(plane: Plane, client: Client) -> None:
    await client.submit()
    await plane.cell.log.save_cursor("sidecar", await plane.cell.log.end())
    request = ListLogReadersRequest()
    found = await client.operations.ListLogReaders(request, metadata=client.metadata)
    assert [reader.name for reader in found.readers] == ["sidecar"]
    assert not found.readers[0].lag.ToTimedelta()
