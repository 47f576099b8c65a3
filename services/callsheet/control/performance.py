"""The contract's form of how tasks and queues fared."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from callsheet.ledger import performance as ledger
from callsheet.ledger.instants import MICROSECOND, instant
from callsheet.ledger.messages import duration, timestamp
from callsheet.ledger.performance import Measures, Report, Series
from callsheet.v1.operations_service_pb2 import (
    PERFORMANCE_WINDOW_DAY,
    PERFORMANCE_WINDOW_HOUR,
    PERFORMANCE_WINDOW_UNSPECIFIED,
    GetPerformanceResponse,
    PerformanceWindow,
    QueueBucket,
    QueueMeasures,
    QueuePerformance,
    TaskBucket,
    TaskMeasures,
    TaskTypePerformance,
)

#: The stretch of time that each window means.
WINDOWS: Final[Mapping[PerformanceWindow.ValueType, ledger.Window]] = MappingProxyType(
    {
        PERFORMANCE_WINDOW_UNSPECIFIED: ledger.HOUR,
        PERFORMANCE_WINDOW_HOUR: ledger.HOUR,
        PERFORMANCE_WINDOW_DAY: ledger.DAY,
    }
)


def performance_to_proto(report: Report) -> GetPerformanceResponse:
    """Return the contract's form of a report."""
    response = GetPerformanceResponse(
        task_types=[
            _task_type(name, report.queue_of[name], series)
            for name, series in report.task_types.items()
        ],
        queues=[_queue(name, series) for name, series in report.queues.items()],
        start_time=timestamp(report.first),
        end_time=timestamp(report.last + report.window.bucket),
        bucket_length=duration(report.window.bucket),
    )
    if report.counted_time is not None:
        response.counted_time.CopyFrom(timestamp(report.counted_time))
    return response


def _task_type(name: str, queue: str, series: Series) -> TaskTypePerformance:
    return TaskTypePerformance(
        task_type=name,
        queue=queue,
        total=_task_measures(series.total),
        buckets=[
            TaskBucket(start_time=timestamp(_start(start)), measures=_task_measures(measures))
            for start, measures in series.buckets.items()
        ],
    )


def _queue(name: str, series: Series) -> QueuePerformance:
    return QueuePerformance(
        name=name,
        total=_queue_measures(series.total),
        buckets=[
            QueueBucket(start_time=timestamp(_start(start)), measures=_queue_measures(measures))
            for start, measures in series.buckets.items()
        ],
    )


def _task_measures(counted: Measures) -> TaskMeasures:
    succeeded, failed = counted.get("succeeded", 0), counted.get("failed", 0)
    found = TaskMeasures(
        submitted=counted.get("submitted", 0),
        succeeded=succeeded,
        failed=failed,
        cancelled=counted.get("cancelled", 0),
        retries=counted.get("retries", 0),
        reused=counted.get("reused", 0),
        failure_rate=failed / (succeeded + failed) if failed else 0.0,
    )
    if runs := counted.get("runs", 0):
        found.mean_run.CopyFrom(duration(_micros(counted["run"] // runs)))
        found.max_run.CopyFrom(duration(_micros(counted["run_max"])))
    if waits := counted.get("waits", 0):
        found.mean_wait.CopyFrom(duration(_micros(counted["wait"] // waits)))
        found.max_wait.CopyFrom(duration(_micros(counted["wait_max"])))
    return found


def _queue_measures(seen: Measures) -> QueueMeasures:
    looks, slots = seen.get("looks", 0), seen.get("slots", 0)
    return QueueMeasures(
        mean_ready=seen["ready"] / looks if looks else 0.0,
        max_ready=seen.get("ready_max", 0),
        mean_use=min(1.0, seen["busy"] / slots) if slots else 0.0,
    )


def _micros(count: int) -> timedelta:
    return count * MICROSECOND


def _start(seconds: int) -> datetime:
    return instant(seconds * 1_000_000)
