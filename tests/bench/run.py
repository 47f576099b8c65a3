"""`make bench`: measure the plane on this machine, print, and write build/bench.json."""

import asyncio
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

import uvloop

from tests.bench.measure import MEASUREMENTS, Figure, watch_events
from tests.bench.plane import measured_plane
from tests.bench.sidecar import sidecar_figures

RESULT: Final = Path(__file__).parents[2] / "build" / "bench.json"


async def measured(folder: Path) -> dict[str, Figure]:
    """Return every figure by its name."""
    figures: dict[str, Figure] = {}

    def note(name: str, figure: Figure) -> None:
        figures[name] = figure
        ratio = "" if figure.ratio is None else f"  ratio {figure.ratio:.2f}"
        print(f"{name:<28}{figure.value:>12.2f} {figure.unit:<8}{ratio}  ({figure.against})")

    async with measured_plane(folder / "plane") as plane:
        for name, measure in MEASUREMENTS.items():
            note(name, await measure(plane))
        first, fan_out = await watch_events(plane)
        note("watch_event_p50_ms", first)
        note("watch_fan_out_p50_ms", fan_out)
    # A plane of its own: its log holds nothing but what is measured.
    async with measured_plane(folder / "sidecar") as plane:
        await sidecar_figures(plane, note)
    return figures


def main() -> None:
    """Measure, print, and write."""
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{platform.system()} {platform.machine()}, {cores} cores, load {load:.1f} at the start")
    with (
        tempfile.TemporaryDirectory(prefix="callsheet-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        figures = runner.run(measured(Path(folder)))
    RESULT.parent.mkdir(exist_ok=True)
    written = {name: asdict(figure) for name, figure in figures.items()}
    RESULT.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
