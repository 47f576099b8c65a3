"""`callsheetd settings`: what is in force, and where each service of the platform is."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from callsheet.runtime.service_registry import ServiceEntry, service_registry
from callsheet.runtime.settings import Settings, describe

_WIDEST_VALUE = 48


def print_settings(settings: Settings, *, as_json: bool) -> None:
    """Print every setting, and then the registry of the environment."""
    rows, services = describe(settings), service_registry(settings).values()
    if as_json:
        shown = {
            "settings": [asdict(row) for row in rows],
            "environment": settings.environment,
            "services": [_fields(each) for each in services],
        }
        print(json.dumps(shown))
        return
    _print_table([(row.variable, row.value, row.source, row.meaning) for row in rows])
    print(f"\nServices of {settings.environment}; those marked * are talked to:")
    _print_table(
        (f"{'*' if each.is_used else ' '} {each.service}", each.shown, each.source, _told(each))
        for each in services
    )


def _told(entry: ServiceEntry) -> str:
    return f"{entry.variable}: {entry.purpose}."


def _fields(entry: ServiceEntry) -> dict[str, str | bool | None]:
    return {
        "service": entry.service.value,
        "url": None if entry.url is None else entry.shown,
        "source": entry.source,
        "variable": entry.variable,
        "is_used": entry.is_used,
        "purpose": entry.purpose,
    }


def _print_table(rows: Iterable[Sequence[str]]) -> None:
    kept = list(rows)
    names = max(len(row[0]) for row in kept)
    values = min(_WIDEST_VALUE, max(len(row[1]) for row in kept))
    for name, value, source, meaning in kept:
        print(f"{name:<{names}}  {value:<{values}}  {source:<11}  {meaning}")
