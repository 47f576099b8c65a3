"""The plot beside the report: bars of all contenders, lines of what an operation costs by size."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, cast
from xml.etree import ElementTree as ET

import pygal
from pygal.style import Style

from tests.bench.report import Row, number
from tests.bench.scale_series import Series

WIDTH: Final = 900
_BAR_HEIGHT: Final = 28
_LINES_HEIGHT: Final = 420
_MARGIN: Final = 90
#: Scripts, which no document runs, and comments, which have the date in them.
_NOT_DRAWN: Final = ("script", ET.Comment)

# What pygal leaves among the importers is of Python 3.3, and breaks others that ask each of them.
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

_WHITE: Final = Style(background="white", plot_background="white", opacity="1")


class _Chart(Protocol):
    """What is used of pygal, which has no types."""

    x_labels: Sequence[str] | Sequence[float]
    uuid: str

    def add(self, title: str, values: Sequence[object], **serie: object) -> object: ...

    def render_tree(self) -> ET.Element: ...


def plot(rows: Sequence[Row], series: Sequence[Series]) -> str | None:
    """Return the plot as SVG, with no script in it; None when there is nothing to draw."""
    charts = [*_bars(rows), *_growth(series), *_watchers(series)]
    return _stacked(charts) if charts else None


def _bars(rows: Sequence[Row]) -> list[_Chart]:
    throughput = {
        _label(row): max(row.summary.tasks_per_s.values())
        for row in rows
        if row.summary.tasks_per_s
    }
    idle = {
        _label(row): row.summary.idle_p50_ms for row in rows if row.summary.idle_p50_ms is not None
    }
    titles = {
        "No-op tasks a second, submitted one by one, run and acknowledged": throughput,
        "Idle dispatch p50, milliseconds from the call to the task's function": idle,
    }
    return [_bar_chart(title, values) for title, values in titles.items() if values]


def _bar_chart(title: str, values: Mapping[str, float]) -> _Chart:
    chart = _chart(
        pygal.HorizontalBar,
        title,
        height=_MARGIN + _BAR_HEIGHT * len(values),
        show_legend=False,
        print_values=True,
        value_formatter=number,
        range=(0, 1.05 * max(values.values())),
    )
    # pygal draws from the bottom.
    upwards = [*values.items()][::-1]
    chart.x_labels = [label for label, _ in upwards]
    chart.add(title, [value for _, value in upwards])
    return chart


def _growth(series: Sequence[Series]) -> Iterator[_Chart]:
    """What the server works and what a caller waits, by how many tasks there are."""
    whose = {"µs": "The server's time for one operation", "ms": "The caller's p50"}
    for unit, what in whose.items():
        lines = {
            line.name: [(x, y / line.points[0][1]) for x, y in line.points]
            for line in series
            if line.against.startswith("tasks") and line.unit == unit
        }
        if lines:
            highest = max(y for points in lines.values() for _, y in points)
            yield _lines(
                f"{what} by the number of tasks, each line by its first value: flat is 1",
                lines,
                range=(0, max(2.0, highest)),
            )


def _watchers(series: Sequence[Series]) -> Iterator[_Chart]:
    """What watchers wait, and what an event costs, by how many of them there are."""
    for unit, what in {
        "ms": "Latency of an event, ms",
        "µs": "Control's CPU for an event, µs",
    }.items():
        lines = {
            line.name: line.points
            for line in series
            if line.against.startswith("watchers") and line.unit == unit
        }
        if lines:
            highest = max(y for points in lines.values() for _, y in points)
            yield _lines(f"{what}, by the number of watchers", lines, range=(0, highest))


def _lines(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], **options: object
) -> _Chart:
    chart = _chart(
        pygal.XY,
        title,
        height=_LINES_HEIGHT,
        legend_at_bottom=True,
        x_value_formatter=_power,
        **options,
    )
    for name, points in lines.items():
        chart.add(name, [(math.log10(x), y) for x, y in points])
    # The sizes themselves, and nothing between them.
    chart.x_labels = sorted({math.log10(x) for points in lines.values() for x, _ in points})
    return chart


def _power(exponent: float) -> str:
    return f"{10**exponent:,.0f}"


def _chart(kind: Callable[..., object], title: str, *, height: int, **options: object) -> _Chart:
    chart = cast(
        "_Chart",
        kind(
            title=title,
            width=WIDTH,
            height=height,
            explicit_size=True,
            style=_WHITE,
            js=(),
            **options,
        ),
    )
    # A chance id would make every run's file another one.
    chart.uuid = re.sub("[^a-z]+", "-", title.lower())
    return chart


def _label(row: Row) -> str:
    return f"{row.title}, {row.durability}" if row.durability else row.title


def _stacked(charts: Sequence[_Chart]) -> str:
    """Return one drawing with the charts below each other."""
    whole = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    top = 0
    for chart in charts:
        drawn = chart.render_tree()
        _strip(drawn)
        drawn.set("y", str(top))
        top += int(drawn.get("height", "0"))
        whole.append(drawn)
    whole.set("width", str(WIDTH))
    whole.set("height", str(top))
    whole.set("viewBox", f"0 0 {WIDTH} {top}")
    return ET.tostring(whole, encoding="unicode") + "\n"


def _strip(drawn: ET.Element) -> None:
    """Take out what is not drawn."""
    for parent in drawn.iter():
        for child in list(parent):
            if child.tag in _NOT_DRAWN:
                parent.remove(child)
