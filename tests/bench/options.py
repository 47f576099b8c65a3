"""What a run measures, as its caller says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench.contenders import names

#: What is measured of Callsheet alone: worker and watchers, webhooks and brain, REST, size.
ALONE: Final = ("plane", "sidecar", "gateway", "scale")
ROUNDS: Final = 3


@dataclass(frozen=True)
class Options:
    """Which parts, how often, and where the report goes."""

    parts: tuple[str, ...]
    rounds: int
    publish: bool
    quick: bool


def parse(words: Sequence[str]) -> Options:
    """Return the options. Raises SystemExit when there is no such part, or they contradict."""
    every = (*names(), *ALONE)
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=every,
        default=list(every),
        metavar="PART",
        help=f"measure these alone, and write them alone: {', '.join(every)}",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the side-by-side")
    parser.add_argument(
        "--publish", action="store_true", help="write the report beside the bench, not to build/"
    )
    parser.add_argument(
        "--quick", action="store_true", help="does everything run? its figures go to build/quick/"
    )
    found = parser.parse_args(words)
    if found.quick and found.publish:
        parser.error("the figures of a quick run are worthless: nothing to publish")
    return Options(
        parts=tuple(found.only), rounds=found.rounds, publish=found.publish, quick=found.quick
    )
