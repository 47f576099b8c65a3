"""The command `callsheet`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_BROKEN_PIPE_EXIT = 141  # as a shell tells of a program ended by SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, which ``callsheet --help`` explains."""
    # gRPC reads this when it is loaded; its own log is no part of our answer.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        from callsheet.client.cli.parser import build_parser

        return _run(build_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return _interrupted("")
    except BrokenPipeError:
        # The reader has enough. Python would complain when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE_EXIT


def _run(options: argparse.Namespace) -> int:
    import asyncio

    from callsheet.client.cli.commands import Session
    from callsheet.client.cli.connecting import address_of
    from callsheet.client.cli.exits import UsageError, exit_code, one_line
    from callsheet.client.errors import CallsheetError

    session = Session(options)

    async def run() -> None:
        async with session:
            await options.command(session)

    try:
        asyncio.run(run())
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted(session.following)
    except (CallsheetError, UsageError) as error:
        sys.stdout.flush()
        _complain(one_line(error, address=address_of(options)))
        return exit_code(error).value
    return 0


def _interrupted(following: str) -> int:
    from callsheet.client.cli.exits import Exit

    _complain(f"interrupted; task {following} goes on" if following else "interrupted")
    return Exit.INTERRUPTED.value


def _complain(text: str) -> None:
    print(f"callsheet: {text}", file=sys.stderr)
