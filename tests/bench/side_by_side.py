"""The side-by-side: each contender in turn, in several rounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench import comparison
from tests.bench.comparison import ALWAYS, EVERYSEC, OURS, Round, summary
from tests.bench.contender import Contender
from tests.bench.measure import Figure
from tests.bench.report import Row, number
from tests.bench.turn import Effort, Turn, take_turn

Say = Callable[[str], None]

_OURS_ALWAYS: Final = f"{OURS}/{ALWAYS}"
_SAME_CORES: Final = "each by its best way, median of ratios within rounds"


async def side_by_side(
    contenders: Sequence[Contender], folder: Path, effort: Effort, *, rounds: int, say: Say
) -> list[Round]:
    """Measure; each round begins with another contender, so that none is always the first."""
    done: list[Round] = []
    for number_of_round in range(rounds):
        turns: dict[str, Turn] = {}
        first = number_of_round * len(contenders) // rounds
        for contender in (*contenders[first:], *contenders[:first]):
            home = folder / f"{number_of_round}" / contender.key.replace("/", "-").replace(" ", "-")
            home.mkdir(parents=True)
            turns[contender.key] = turn = await take_turn(contender, home / "stack", effort)
            shutil.rmtree(home)
            say(f"round {number_of_round + 1}/{rounds}  {contender.key:<24} {described(turn)}")
        done.append(turns)
    return done


def rows(contenders: Sequence[Contender], rounds: Sequence[Round]) -> list[Row]:
    """Return the table: a row a contender, in their order."""
    return [
        Row(
            title=contender.title,
            durability=contender.durability,
            configuration=contender.configuration,
            summary=summary([each[contender.key] for each in rounds]),
        )
        for contender in contenders
    ]


def figures(rounds: Sequence[Round]) -> dict[str, Figure]:
    """Return what issues read, by its name; what nobody measured is missing."""
    ratios: Mapping[str, tuple[float | None, str]] = {
        "idle_dispatch_vs_celery": (
            comparison.idle_dispatch_vs_celery(rounds),
            "ours by Celery's p50, fsync always, median of ratios within rounds, bar below 1",
        ),
        "e2e_vs_celery_always": (
            comparison.e2e_vs_celery(rounds, ALWAYS),
            f"ours by Celery's tasks/s, fsync always, {_SAME_CORES}, bar 2.5",
        ),
        "e2e_one_by_one_vs_celery_always": (
            comparison.e2e_vs_celery(rounds, ALWAYS, comparison.one_by_one),
            "as above, both with one call a task, no bar",
        ),
        "e2e_vs_celery_everysec": (
            comparison.e2e_vs_celery(rounds, EVERYSEC),
            f"ours by Celery's tasks/s, fsync everysec, {_SAME_CORES}, bar 4",
        ),
        "e2e_one_by_one_vs_celery_everysec": (
            comparison.e2e_vs_celery(rounds, EVERYSEC, comparison.one_by_one),
            "as above, both with one call a task, no bar",
        ),
        "e2e_vs_best_peer": (
            _lesser(rounds),
            f"ours by the fastest peer's tasks/s, the lesser durability, {_SAME_CORES}, bar 1",
        ),
    }
    found = _ours(rounds)
    found |= {
        name: Figure(value, "times", against, ratio=value)
        for name, (value, against) in ratios.items()
        if value is not None
    }
    return found


def described(turn: Turn) -> str:
    """Return a turn in one line."""
    it = summary([turn])
    words = [f"idle {number(it.idle_p50_ms)} ms"] if turn.idle_ms else []
    words += [f"submits/s {_rates(it.submits_per_s)}"]
    words += [f"tasks/s {_rates(it.tasks_per_s)}"] if turn.tasks_per_s else []
    words += [f"bulk {number(it.batch_per_s)}/s"] if turn.batch_per_s else []
    return ", ".join(words)


def _ours(rounds: Sequence[Round]) -> dict[str, Figure]:
    turns = [each[_OURS_ALWAYS] for each in rounds if _OURS_ALWAYS in each]
    it = summary(turns)
    found: dict[str, Figure] = {}
    if it.idle_p50_ms is not None:
        against = "appendfsync always, one caller, bar 3.5 ms"
        found["idle_dispatch_p50_ms"] = Figure(it.idle_p50_ms, "ms", against)
    if it.batch_per_s is not None:
        against = "appendfsync always, one caller, bar 15,000"
        found["batch_submit_per_s"] = Figure(it.batch_per_s, "tasks/s", against)
    if (ratio := comparison.submit64_vs_empty(rounds)) is not None:
        against = "64 in flight, ratio to an empty grpc.aio handler, bar 0.4"
        value = it.submits_per_s[64]
        found["submit64_vs_empty"] = Figure(value, "calls/s", against, ratio=ratio)
    return found


def _lesser(rounds: Sequence[Round]) -> float | None:
    both = [comparison.e2e_vs_best_peer(rounds, each) for each in (ALWAYS, EVERYSEC)]
    return min((ratio for ratio in both if ratio is not None), default=None)


def _rates(rates: Mapping[int, float]) -> str:
    return " ".join(f"{count}:{number(rate)}" for count, rate in rates.items())
