"""The report in Markdown. Pure: what was measured comes in, text goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.comparison import Summary
from tests.bench.measure import Figure
from tests.bench.scale_series import Series

NOTHING: Final = "-"

_COLUMNS: Final = (
    "contender",
    "fsync",
    "idle p50 ms",
    "p95",
    "p99",
    "submits/s, 1 caller",
    "16",
    "64",
    "tasks/s, 1 worker",
    "2 workers",
)
_BULK_COLUMNS: Final = ("contender", "fsync", "tasks accepted/s", "tasks/s, 1 worker", "2 workers")


@dataclass(frozen=True)
class Row:
    """One contender of the table."""

    title: str
    #: The Valkey's appendfsync; None where nothing is stored.
    durability: str | None
    configuration: str
    summary: Summary


@dataclass(frozen=True)
class Report:
    """All that is said about one run."""

    date: str
    machine: str
    rounds: int
    rows: Sequence[Row]
    figures: Mapping[str, Figure]
    series: Sequence[Series]
    #: Contenders that could not take part, with the reason of each.
    left_out: Mapping[str, str]


def markdown(report: Report, *, plot: str | None) -> str:
    """Return the whole document; *plot* is the path of the plot, seen from the document."""
    parts = ["# Results of `make bench`", _head(report)]
    if report.rows:
        parts += [f"## Side by side\n\n{_METHOD}", comparison_table(report.rows)]
        if bulk := bulk_table(report.rows):
            parts += [_BULK, bulk]
        parts += [_configurations(report.rows)]
    if plot is not None:
        parts += [f"![Throughput, idle dispatch, and cost by size]({plot})"]
    if report.series:
        parts += ["## Growth", *series_tables(report.series)]
    if report.figures:
        parts += ["## Figures", figure_table(report.figures)]
    return "\n\n".join(parts) + "\n"


_METHOD: Final = (
    "Every contender gets a fresh Valkey, the same binary, with the stated `appendfsync`, the same"
    " cores, and takes its turn in every round; figures are medians over the rounds. Idle dispatch:"
    " from the call (HTTP POST over a kept-alive connection, or gRPC SubmitTask) to the moment the"
    " task's function begins, as that function itself tells over a socket. Submits: accepted calls"
    " a second while no worker runs. Tasks: no-op tasks submitted by one call each, until the last"
    " one was run and acknowledged, a second."
)
_BULK: Final = (
    "The bulk path: calls of 1,000 tasks. Ours answers for each task by itself; the peers have an"
    " endpoint that sends one message after the other (over one producer, or 64 at a time), and"
    " answers with their ids."
)


def comparison_table(rows: Sequence[Row]) -> str:
    """Return what can be compared of all contenders."""
    return _table(_COLUMNS, [_cells(row) for row in rows])


def bulk_table(rows: Sequence[Row]) -> str:
    """Return what contenders with a bulk path do; nothing when there is none."""
    bulk = [row for row in rows if row.summary.batch_per_s is not None]
    return _table(_BULK_COLUMNS, [_bulk_cells(row) for row in bulk]) if bulk else ""


def figure_table(figures: Mapping[str, Figure]) -> str:
    """Return the figures of build/bench.json, each with its bar where it has one."""
    columns = ("figure", "value", "ratio", "against")
    lines = [
        (
            f"`{name}`",
            f"{number(figure.value)} {figure.unit}",
            NOTHING if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.against,
        )
        for name, figure in figures.items()
    ]
    return _table(columns, lines)


def series_tables(series: Sequence[Series]) -> list[str]:
    """Return a table for all lines over the same sizes, in the order of the lines."""
    shapes: dict[tuple[float, ...], list[Series]] = {}
    for line in series:
        shapes.setdefault(tuple(x for x, _ in line.points), []).append(line)
    return [_series_table(sizes, lines) for sizes, lines in shapes.items()]


def _series_table(sizes: Sequence[float], lines: Sequence[Series]) -> str:
    columns = ("what", "unit", "by", *(f"{size:,.0f}" for size in sizes))
    return _table(
        columns,
        [
            (f"`{line.name}`", line.unit, line.against, *(number(y) for _, y in line.points))
            for line in lines
        ],
    )


def number(value: float | None) -> str:
    """Return three digits that count, and no more; whole numbers from 100 on."""
    if value is None:
        return NOTHING
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _head(report: Report) -> str:
    lines = [f"{report.date}. {report.machine}."]
    if report.rounds:
        lines.append(f"{report.rounds} rounds." if report.rounds > 1 else "One round.")
    lines += [f"**Left out: {name}**, {why}." for name, why in report.left_out.items()]
    return " ".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    it = row.summary
    idle = (it.idle_p50_ms, it.idle_p95_ms, it.idle_p99_ms)
    submits = (it.submits_per_s.get(callers) for callers in (1, 16, 64))
    tasks = (it.tasks_per_s.get(workers) for workers in (1, 2))
    return (row.title, row.durability or NOTHING, *map(number, (*idle, *submits, *tasks)))


def _bulk_cells(row: Row) -> tuple[str, ...]:
    tasks = (row.summary.bulk_tasks_per_s.get(workers) for workers in (1, 2))
    rates = map(number, (row.summary.batch_per_s, *tasks))
    return (row.title, row.durability or NOTHING, *rates)


def _configurations(rows: Sequence[Row]) -> str:
    by_title = {row.title: row.configuration for row in rows}
    return "\n".join(f"- {title}: {text}." for title, text in by_title.items())


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(columns)
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, rule, *lines))
