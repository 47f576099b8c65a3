"""`callsheetd media`: registrations of media that were given up, seen and tried again."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from callsheet.embedded.key_commands import CommandRefused
from callsheet.embedded.redis_access import ledger_redis
from callsheet.ledger.index import Keys
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.settings import Settings

#: The method of argparse that adds a command, whose class is private.
AddParser = Callable[..., argparse.ArgumentParser]

_MOST: Final = 10_000
#: Tasks of one script call.
_TOGETHER: Final = 500


def add_media(add_parser: AddParser) -> None:
    """Add `media` with its actions: list, retry."""
    media = add_parser(
        "media",
        help="list and retry registrations of media that were given up",
        description="Tasks whose artifacts could not be registered in PayloadCMS, by the schedule "
        "of CALLSHEET_PAYLOAD_RETRY_SECONDS.",
    )
    actions = media.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        help="list what was given up, and why",
        description="List what was given up, the latest first: task, time, tries, reason.",
    )
    listing.add_argument("--limit", type=_count, default=100, help="the most to list; 100")
    listing.add_argument("--json", action="store_true", help="print one array of objects")
    retry = actions.add_parser(
        "retry",
        help="try again what was given up",
        description="Have sidecars try again at once, by the whole schedule.",
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("task_id", metavar="TASK", nargs="*", default=[], help="as it is listed")
    which.add_argument("--all", action="store_true", help=f"all, or the latest {_MOST}")
    retry.add_argument("--json", action="store_true", help="print one object")


async def media_command(settings: Settings, asked: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises CommandRefused, and what reaching the ledger raises.
    """
    async with ledger_redis(settings) as redis:
        work = MediaWork(RedisConnection(redis), Keys(settings.cell))
        if asked.action == "list":
            await _list(work, asked)
        else:
            await _retry(work, asked)


async def _list(work: MediaWork, asked: argparse.Namespace) -> None:
    found: list[Mapping[str, str | int]] = [
        {
            "task_id": each.task_id,
            "time": each.time.isoformat(timespec="seconds"),
            "tries": each.record.tries,
            "reason": each.record.error,
        }
        for each in await work.dead(limit=asked.limit)
    ]
    if asked.json:
        print(json.dumps(found))
        return
    for each in found:
        print("  ".join(str(value) for value in each.values()))


async def _retry(work: MediaWork, asked: argparse.Namespace) -> None:
    wanted: Sequence[str] = asked.task_id
    if asked.all:
        wanted = [each.task_id for each in await work.dead(limit=_MOST)]
    retried: list[str] = []
    for start in range(0, len(wanted), _TOGETHER):
        retried += await work.retry(wanted[start : start + _TOGETHER])
    missed = sorted(set(wanted) - set(retried))
    if missed and not asked.all:
        raise CommandRefused(
            f"media of {', '.join(missed[:5])} were not given up; {len(retried)} are tried again"
        )
    print(json.dumps({"retried": retried}) if asked.json else f"{len(retried)} are tried again")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_MOST}")
    return int(text)
