"""`make bench`: measure, print, and write build/bench.json and the report."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from tests.bench.contenders import contenders, left_out
from tests.bench.gateway import gateway_figures
from tests.bench.machine import machine_line
from tests.bench.measure import Figure, watch_events, worker_pings
from tests.bench.options import Options, parse
from tests.bench.plane import measured_plane
from tests.bench.plot import plot
from tests.bench.report import Report, Row, markdown
from tests.bench.scale import PARTS, SMALL, scale_figures
from tests.bench.scale_series import Series
from tests.bench.side_by_side import figures, rows, side_by_side
from tests.bench.sidecar import sidecar_figures
from tests.bench.turn import QUICK, Effort
from tests.bench.witnessed import HERE, REPOSITORY

BUILD: Final = REPOSITORY / "build"
REPORT: Final = "RESULTS.md"
PLOT: Final = "RESULTS.svg"


@dataclass
class Run:
    """What a run has found so far."""

    figures: dict[str, Figure] = field(default_factory=dict[str, Figure])
    rows: list[Row] = field(default_factory=list[Row])
    series: list[Series] = field(default_factory=list[Series])

    def note(self, name: str, figure: Figure) -> None:
        """Keep a figure, and print it."""
        self.figures[name] = figure
        ratio = "" if figure.ratio is None else f"  ratio {figure.ratio:.2f}"
        _say(f"{name:<32}{figure.value:>12.2f} {figure.unit:<8}{ratio}  ({figure.against})")


async def measured(folder: Path, options: Options) -> Run:
    """Measure every part that is wanted."""
    run = Run()
    await _compare(run, folder / "contenders", options)
    if "plane" in options.parts:
        async with measured_plane(folder / "plane") as plane:
            run.note("worker_ping_per_s", await worker_pings(plane))
            first, fan_out = await watch_events(plane)
            run.note("watch_event_p50_ms", first)
            run.note("watch_fan_out_p50_ms", fan_out)
    if "sidecar" in options.parts:
        # A plane of its own: its log holds nothing but what is measured.
        async with measured_plane(folder / "sidecar") as plane:
            await sidecar_figures(plane, run.note)
    if "gateway" in options.parts:
        async with measured_plane(folder / "gateway") as plane:
            await gateway_figures(plane, run.note)
    if "scale" in options.parts:
        parts = SMALL if options.quick else PARTS
        run.series = await scale_figures(folder / "scale", run.note, measured=parts)
    return run


async def _compare(run: Run, folder: Path, options: Options) -> None:
    wanted = [each for each in contenders() if each.name in options.parts]
    if not wanted:
        return
    effort = QUICK if options.quick else Effort()
    rounds = await side_by_side(wanted, folder, effort, rounds=options.rounds, say=_say)
    run.rows = rows(wanted, rounds)
    for name, figure in figures(rounds).items():
        run.note(name, figure)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse(words)
    date, machine, absent = f"{datetime.now(UTC):%Y-%m-%d}", machine_line(), left_out(options.parts)
    _say(machine)
    for name, why in absent.items():
        _say(f"LEFT OUT: {name}: {why}")
    with (
        tempfile.TemporaryDirectory(prefix="callsheet-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        run = runner.run(measured(Path(folder), options))
    report = Report(
        date=date,
        machine=machine,
        rounds=options.rounds if run.rows else 0,
        rows=run.rows,
        figures=run.figures,
        series=run.series,
        left_out=absent,
    )
    build = BUILD / "quick" if options.quick else BUILD
    build.mkdir(parents=True, exist_ok=True)
    written = {name: asdict(figure) for name, figure in run.figures.items()}
    (build / "bench.json").write_text(json.dumps(written, indent=2) + "\n")
    _write(run, report, HERE if options.publish else build)


def _write(run: Run, report: Report, folder: Path) -> None:
    drawn = plot(run.rows, run.series)
    if drawn is not None:
        (folder / PLOT).write_text(drawn)
    (folder / REPORT).write_text(markdown(report, plot=None if drawn is None else PLOT))
    _say(f"{folder / REPORT} has the report")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
