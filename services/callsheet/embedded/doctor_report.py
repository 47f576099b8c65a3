"""What `callsheetd doctor` prints: a line for each part, and below it what mends it."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from callsheet.runtime.checks.finding import Finding, HealthState, worst

if TYPE_CHECKING:
    from callsheet.embedded.doctor import Examined

_STATE_WIDTH: Final = max(len(state.value) for state in HealthState)
_NAME_WIDTH: Final = 14
_MEBIBYTE: Final = 2**20
_INDENT: Final = " " * (_STATE_WIDTH + 2)
_SUMMARIES: Final[Mapping[HealthState, str]] = MappingProxyType(
    {
        HealthState.UP: "Everything that could be looked at is up.",
        HealthState.DEGRADED: "It works, less well than it should.",
        HealthState.DOWN: "Something is down.",
    }
)


def lines_of(found: "Sequence[Examined]") -> Iterator[str]:
    """Yield the lines for people."""
    for each in found:
        yield from _lines(each.name, each.finding, since=each.since)
        for name, part in each.finding.parts.items():
            yield from _lines(f"  {name}", part, since=None)
    yield _SUMMARIES[_overall(found)]


def report_of(found: "Sequence[Examined]") -> Mapping[str, object]:
    """Return the object for programs."""
    return {
        "status": _overall(found).value,
        "components": {each.name: {**_fields(each.finding), "since": each.since} for each in found},
    }


def _overall(found: "Sequence[Examined]") -> HealthState:
    states = {each.finding.state for each in found}
    return worst(states - {HealthState.UNKNOWN})


def _lines(name: str, finding: Finding, *, since: str | None) -> Iterator[str]:
    told = finding.reason
    if finding.detail:
        told = f"{told} ({finding.detail})" if told else finding.detail
    begun = f"since {since}" if since is not None else ""
    facts = [told, begun, _latency(finding), _figures(finding).replace("_", " ")]
    shown = "  ".join(fact for fact in facts if fact)
    yield f"{finding.state.value:<{_STATE_WIDTH}}  {name:<{_NAME_WIDTH}}  {shown}".rstrip()
    if finding.mend:
        yield f"{_INDENT}{'':<{_NAME_WIDTH}}  -> {finding.mend}"


def _latency(finding: Finding) -> str:
    if finding.latency is None:
        return ""
    return f"{finding.latency.total_seconds() * 1000:.1f} ms"


def _figures(finding: Finding) -> str:
    return ", ".join(_figure(name, value) for name, value in finding.figures.items())


def _figure(name: str, value: str | float | bool) -> str:  # noqa: FBT001  # a figure may be one
    if name.endswith("_bytes"):
        return f"{name.removesuffix('_bytes')} {float(value) / _MEBIBYTE:.0f} MiB"
    return f"{name} {value}"


def _fields(finding: Finding) -> dict[str, object]:
    latency = finding.latency
    return {
        "status": finding.state.value,
        "reason": finding.reason,
        "detail": finding.detail,
        "mend": finding.mend,
        "latency_ms": None if latency is None else round(latency.total_seconds() * 1000, 3),
        "figures": dict(finding.figures),
        "parts": {name: _fields(part) for name, part in finding.parts.items()},
    }
