"""What `up` tells the person, or the program, that started it."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from callsheet.embedded.child import ChildFact, ChildReport
from callsheet.embedded.gateway_room import GatewayAddresses
from callsheet.embedded.log_file import last_lines
from callsheet.runtime.settings import without_password

_LONGEST_COMPLAINT: Final = 300


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What `up` prints when everything runs; *late* names those that have not said so."""

    grpc_address: str
    redis_url: str
    key: str | None
    projects: Sequence[str]
    state_dir: Path
    artifacts_url: str
    brain_ws_url: str | None
    addresses: GatewayAddresses
    pid: int
    processes: Mapping[str, int | None]
    late: Sequence[str]

    @property
    def settings(self) -> Mapping[str, str | None]:
        """Where everything is, under the names of the settings that say so."""
        return {
            "grpc_address": self.grpc_address,
            "gateway_address": self.addresses.gateway,
            "health_address": self.addresses.health,
            "docs_address": self.addresses.docs,
            "brain_ws_url": self.brain_ws_url,
        }


class Console:
    """Writes lines for people, or with *as_json* one object for a program."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, line: str) -> None:
        """Tell a person something: on stdout, or on stderr when stdout is for a program."""
        print(line, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def complain(self, line: str) -> None:
        """Tell whoever is there what went wrong, in one line on stderr."""
        print(f"callsheetd: {line}", file=sys.stderr, flush=True)

    def announce(self, readiness: Readiness) -> None:
        """Say that everything runs, and where."""
        if self._as_json:
            print(json.dumps(_ready_event(readiness)), flush=True)
            return
        lines = {
            **readiness.addresses.urls,
            "control": readiness.grpc_address,
            "redis": without_password(readiness.redis_url),
            "artifacts": without_password(readiness.artifacts_url),
            "brain": readiness.brain_ws_url or "none",
            "state": str(readiness.state_dir),
            "logs": str(readiness.state_dir / "logs"),
            "projects": ", ".join(readiness.projects),
            "key": readiness.key or "make one with `callsheetd keys create`",
        }
        for name, value in lines.items():
            self.say(f"  {name:<10} {value}")
        if readiness.late:
            self.say(f"  not ready yet: {', '.join(readiness.late)}")
        self.say("Ctrl-C stops everything, in order; a second one at once.")
        self.say("ready")

    def report(self, report: ChildReport, *, log: Path) -> None:
        """Tell of a process that did what it should not."""
        wait = f"{report.wait.total_seconds():.1f} s" if report.wait is not None else ""
        match report.fact:
            case ChildFact.EXITED:
                self.complain(
                    f"{report.name} ended ({_ending(report)}), starts again in {wait}; see {log}"
                )
            case ChildFact.CRASH_LOOPED:
                self.complain(
                    f"{report.name} keeps ending ({_ending(report)}): {last_words(log)}; "
                    f"next try in {wait}; see {log}"
                )
            case ChildFact.KILLED:
                self.complain(f"{report.name} did not stop in time and was killed; see {log}")
            case ChildFact.STARTED | ChildFact.BECAME_READY | ChildFact.STOPPED:
                pass


def last_words(log: Path) -> str:
    """Return what a process wrote last: of a log line in JSON, the fact and its reason."""
    lines = last_lines(log, count=1)
    if not lines:
        return "it wrote nothing"
    return _told(lines[0])[:_LONGEST_COMPLAINT]


def _told(line: str) -> str:
    try:
        fields = cast("Mapping[str, object]", json.loads(line))
        reason = _cause(fields) or fields.get("reason") or fields.get("message")
        return f"{fields['event']}: {reason}" if reason else str(fields["event"])
    except (ValueError, AttributeError, LookupError, TypeError):
        return line


def _cause(fields: Mapping[str, object]) -> str | None:
    """Return what an exception said; of a group, the first one of it."""
    exceptions = cast("list[Mapping[str, object]] | None", fields.get("exception"))
    while exceptions:
        first = exceptions[0]
        within = cast("list[list[Mapping[str, object]]]", first.get("exceptions", []))
        if not within:
            return f"{first['exc_type']}: {first['exc_value']}"
        exceptions = within[0]
    return None


def _ending(report: ChildReport) -> str:
    code = report.exit_code
    if code is None:
        return "not started"
    return f"signal {-code}" if code < 0 else f"exit {code}"


def _ready_event(readiness: Readiness) -> Mapping[str, object]:
    return {
        "event": "ready",
        **readiness.settings,
        "redis_url": without_password(readiness.redis_url),
        "key": readiness.key,
        "project": readiness.projects[0] if readiness.projects else None,
        "projects": list(readiness.projects),
        "state_dir": str(readiness.state_dir),
        "artifacts_url": without_password(readiness.artifacts_url),
        "pid": readiness.pid,
        "processes": dict(readiness.processes),
        "late": list(readiness.late),
    }
