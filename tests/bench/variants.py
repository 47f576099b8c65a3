"""Which configuration does best for a peer: `python -m tests.bench.variants celery`.

Its chosen configuration and all others that were tried, measured as the side-by-side measures.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from callsheet.embedded.valkey import AppendFsync
from tests.bench.contender import Contender
from tests.bench.contenders import DURABILITIES, peer_contender
from tests.bench.peer_list import PEERS, VARIANTS
from tests.bench.report import comparison_table
from tests.bench.side_by_side import rows, side_by_side
from tests.bench.turn import QUICK, Effort


def variants(name: str, durability: AppendFsync) -> list[Contender]:
    """Return a peer as it was chosen, and its other configurations."""
    (chosen,) = [peer for peer in PEERS if peer.name == name]
    every = {"as chosen": chosen, **VARIANTS[name]}
    return [
        replace(peer_contender(peer, durability), name=variant, title=variant)
        for variant, peer in every.items()
    ]


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=tuple(VARIANTS))
    parser.add_argument("--durability", choices=DURABILITIES, default="always")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="figures are worthless")
    asked = parser.parse_args(words)
    compared = variants(asked.peer, asked.durability)
    effort = QUICK if asked.quick else Effort()
    with (
        tempfile.TemporaryDirectory(prefix="callsheet-variants-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        measuring = side_by_side(compared, Path(folder), effort, rounds=asked.rounds, say=print)
        print(comparison_table(rows(compared, runner.run(measuring))))


if __name__ == "__main__":
    main(sys.argv[1:])
