"""How health is shown: to anybody, states and reasons; to the plane's own people, numbers too."""

from datetime import datetime

from callsheet.gateway.health.watch import Component, HealthWatch
from callsheet.runtime.checks.finding import Finding

Shown = dict[str, object]


def plane_view(watch: HealthWatch, *, figures: bool = False) -> Shown:
    """Return how the plane and each of its parts is; with *figures* also their numbers."""
    return {
        "status": watch.state.value,
        "since": time_view(watch.since),
        "components": {
            name: component_view(component, figures=figures)
            for name, component in watch.components.items()
        },
    }


def component_view(component: Component, *, figures: bool = False) -> Shown:
    """Return how one part is, and its own parts."""
    view = _view(component.finding, since=component.since, figures=figures)
    view["checked"] = None if component.seen is None else time_view(component.seen)
    if component.finding.parts:
        view["parts"] = {
            name: _view(part, since=component.parts_since[name], figures=figures)
            for name, part in component.finding.parts.items()
        }
    return view


def _view(finding: Finding, *, since: datetime, figures: bool) -> Shown:
    latency = finding.latency
    view: Shown = {
        "status": finding.state.value,
        "since": time_view(since),
        "reason": finding.reason or None,
        "latency_ms": None if latency is None else round(latency.total_seconds() * 1000, 3),
    }
    if figures:
        view["figures"] = dict(finding.figures)
    return view


def time_view(moment: datetime) -> str:
    """Return a moment as health tells it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
