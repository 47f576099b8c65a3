"""What is made of the turns of all contenders: medians, and ratios within each round. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.bench.scale_series import percentile
from tests.bench.turn import Turn

OURS: Final = "callsheet"
CELERY: Final = "celery"
EMPTY: Final = "grpc-empty"
#: Those that run tasks; the floor does not.
PEERS: Final = (CELERY, "dramatiq", "taskiq", "saq")
ALWAYS: Final = "always"
EVERYSEC: Final = "everysec"

#: One round: what each contender did in it, by key ("celery/always").
Round = Mapping[str, Turn]


@dataclass(frozen=True)
class Summary:
    """Medians over the rounds; None where a contender does no such thing."""

    idle_p50_ms: float | None
    idle_p95_ms: float | None
    idle_p99_ms: float | None
    submits_per_s: Mapping[int, float]
    tasks_per_s: Mapping[int, float]
    batch_per_s: float | None
    bulk_tasks_per_s: Mapping[int, float]


def summary(turns: Sequence[Turn]) -> Summary:
    """Return the medians of one contender's turns; a percentile is the median of the rounds'."""

    def idle(share: float) -> float | None:
        return _median(percentile(turn.idle_ms, share) for turn in turns if turn.idle_ms)

    return Summary(
        idle_p50_ms=idle(0.5),
        idle_p95_ms=idle(0.95),
        idle_p99_ms=idle(0.99),
        submits_per_s=_medians([turn.submits_per_s for turn in turns]),
        tasks_per_s=_medians([turn.tasks_per_s for turn in turns]),
        batch_per_s=_median(t.batch_per_s for t in turns if t.batch_per_s is not None),
        bulk_tasks_per_s=_medians([turn.bulk_tasks_per_s for turn in turns]),
    )


def idle_dispatch_vs_celery(rounds: Sequence[Round]) -> float | None:
    """Callsheet's idle dispatch p50 by Celery's, both with fsync always; below 1 is better.

    From the call to the start of the task's function, in milliseconds by milliseconds of the same
    round; the median over the rounds.
    """
    return _ratio(rounds, _key(OURS, ALWAYS), _key(CELERY, ALWAYS), _idle_p50)


def e2e_vs_celery(
    rounds: Sequence[Round],
    durability: str,
    rate: Callable[[Turn], float | None] | None = None,
) -> float | None:
    """Callsheet's end-to-end rate by Celery's, both with that durability; above 1 is better.

    No-op tasks submitted, run and acknowledged a second, of each the best of what was measured:
    submitted one by one or a thousand a call, with 1 or 2 worker processes, for both have the same
    cores; in the same round; the median over them.
    """
    return _ratio(rounds, _key(OURS, durability), _key(CELERY, durability), rate or end_to_end)


def e2e_vs_best_peer(rounds: Sequence[Round], durability: str) -> float | None:
    """Callsheet's end-to-end rate by that of the round's fastest peer; above 1 is better.

    As `e2e_vs_celery`, with whichever peer, Celery among them, did most in that round.
    """
    values: list[float] = []
    for each in rounds:
        ours = each.get(_key(OURS, durability))
        theirs = [each[key] for name in PEERS if (key := _key(name, durability)) in each]
        best = max((rate for turn in theirs if (rate := end_to_end(turn))), default=None)
        if ours is not None and (mine := end_to_end(ours)) and best:
            values.append(mine / best)
    return _median(values)


def submit64_vs_empty(rounds: Sequence[Round]) -> float | None:
    """SubmitTask calls a second with 64 in flight by those of an empty grpc.aio handler.

    Callsheet with fsync always; in the same round; the median over the rounds; 1 is the most
    there can be.
    """
    return _ratio(rounds, _key(OURS, ALWAYS), EMPTY, lambda turn: turn.submits_per_s.get(64))


def end_to_end(turn: Turn) -> float | None:
    """Return the best rate, in tasks a second: one by one or in bulk, 1 or 2 worker processes."""
    return max((*turn.tasks_per_s.values(), *turn.bulk_tasks_per_s.values()), default=None)


def one_by_one(turn: Turn) -> float | None:
    """Return the better rate of 1 and 2 worker processes for tasks submitted by one call each."""
    return max(turn.tasks_per_s.values(), default=None)


def _ratio(
    rounds: Iterable[Round], ours: str, theirs: str, figure: Callable[[Turn], float | None]
) -> float | None:
    """Return the median of the ratios within rounds; None when no round has both."""
    values: list[float] = []
    for each in rounds:
        if ours in each and theirs in each:
            mine, other = figure(each[ours]), figure(each[theirs])
            if mine is not None and other:
                values.append(mine / other)
    return _median(values)


def _idle_p50(turn: Turn) -> float | None:
    return percentile(turn.idle_ms, 0.5) if turn.idle_ms else None


def _key(name: str, durability: str) -> str:
    return f"{name}/{durability}"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _medians(rates: Sequence[Mapping[int, float]]) -> dict[int, float]:
    counts = sorted({count for each in rates for count in each})
    return {n: median(each[n] for each in rates if n in each) for n in counts}
