"""How queues and task types fared, as `/api/background/performance/overview` tells it."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from callsheet.gateway.task_views import Json, time_text
from callsheet.v1 import operations_service_pb2 as operations


def performance_overview(
    found: operations.GetPerformanceResponse, queues: Sequence[operations.Queue]
) -> Json:
    """Return the overview; times in seconds, rates from 0 to 1, null where nothing was counted."""
    depths = {queue.name: queue.ready for queue in queues}
    return {
        "task_types": [
            {"task_type": each.task_type, "queue": each.queue, **_measures([each.total])}
            for each in found.task_types
        ],
        "queues": [
            {
                "queue": each.name,
                "depth": depths.get(each.name, 0),
                "mean_depth": round(each.total.mean_ready, 3),
                "max_depth": each.total.max_ready,
                "worker_use": round(each.total.mean_use, 4),
                **_measures([one.total for one in found.task_types if one.queue == each.name]),
            }
            for each in found.queues
        ],
        "start_time": time_text(found.start_time),
        "end_time": time_text(found.end_time),
    }


def _measures(totals: Sequence[operations.TaskMeasures]) -> Json:
    """Return what was counted of one or more task types together."""
    succeeded, failed = sum(t.succeeded for t in totals), sum(t.failed for t in totals)
    ended = succeeded + failed
    # A task answered with another one's output took no run of its own.
    runs = [
        (t.mean_run, t.succeeded - t.reused + t.failed) for t in totals if t.HasField("mean_run")
    ]
    longest = [_seconds(t.max_run) for t in totals if t.HasField("max_run")]
    count = sum(number for _, number in runs)
    spent = sum(_seconds(mean) * number for mean, number in runs)
    return {
        "submitted": sum(t.submitted for t in totals),
        "succeeded": succeeded,
        "failed": failed,
        "cancelled": sum(t.cancelled for t in totals),
        "retries": sum(t.retries for t in totals),
        "success_rate": round(succeeded / ended, 6) if ended else None,
        "failure_rate": round(failed / ended, 6) if ended else None,
        "average_runtime": round(spent / count, 6) if count else None,
        "max_runtime": max(longest, default=None),
    }


def _seconds(span: Duration) -> float:
    return span.ToTimedelta().total_seconds()
