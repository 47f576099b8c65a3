"""The independent checker: from a run's folder alone to counts and violations.

`python -m tests.chaos.checker FOLDER 4` checks a folder that a run left, with leases of 4 seconds.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.chaos.checks.attempts import check_attempts
from tests.chaos.checks.borders import check_flow, check_projects
from tests.chaos.checks.leases import check_leases
from tests.chaos.checks.lives import check_lives
from tests.chaos.checks.report import Limits, Report
from tests.chaos.checks.stops import check_stops
from tests.chaos.checks.submits import check_refusals, check_submits
from tests.chaos.checks.told import check_brain, check_webhooks
from tests.chaos.checks.view import View
from tests.chaos.checks.watchers import check_watchers
from tests.chaos.final_state import FinalState, read_final
from tests.chaos.history import Record, read_history


def check(records: Sequence[Record], final: FinalState, *, limits: Limits | None = None) -> Report:
    """Return what a run's records and its end say of the twelve invariants."""
    view, report, bounds = View(records, final), Report(), limits or Limits()
    check_submits(view, report)
    check_lives(view, report)
    check_watchers(view, report)
    check_leases(view, report)
    check_attempts(view, bounds, report)
    check_webhooks(view, report)
    check_brain(view, report)
    check_stops(view, bounds, report)
    check_refusals(view, report)
    check_projects(view, report)
    check_flow(view, bounds, report)
    report.require_all_checked()
    return report


def check_folder(folder: Path, *, limits: Limits | None = None) -> Report:
    """Return what a run's folder says. Raises OSError, msgspec.DecodeError."""
    return check(read_history(folder), read_final(folder), limits=limits)


def main(folder: Path, *seconds: str) -> int:
    """Print what was found; return 1 when something did not hold.

    *seconds*: how long the leases of the run lasted, if not as long as the plane's usually do.
    """
    limits = Limits(lease=float(seconds[0])) if seconds else None
    report = check_folder(folder, limits=limits)
    found = {"invariants": report.counts(), "violations": report.violations}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
