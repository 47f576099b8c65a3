"""The command `callsheetd`: runs the plane's processes and looks after what they share."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

from redis.exceptions import RedisError

from callsheet.embedded.arguments import command_line
from callsheet.embedded.console import Console
from callsheet.embedded.embedded_brain import BRAIN
from callsheet.embedded.engine import EngineUnfit
from callsheet.embedded.key_commands import (
    CommandRefused,
    keys_create,
    keys_list,
    keys_revoke,
)
from callsheet.embedded.media_commands import media_command
from callsheet.embedded.model_commands import models_command
from callsheet.embedded.redis_access import running_embedded_url
from callsheet.embedded.settings_report import print_settings
from callsheet.embedded.up import room_command, run_up
from callsheet.embedded.valkey import ValkeyUnavailable
from callsheet.embedded.webhook_commands import webhooks_command
from callsheet.ledger.errors import LedgerError
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.redis import RedisUnfit
from callsheet.runtime.secrets import SecretUnusable
from callsheet.runtime.settings import Settings, load_settings_or_exit

EXIT_REFUSED: Final = 1
EXIT_INTERRUPTED: Final = 130

_REFUSALS: Final = (
    CommandRefused,
    EngineUnfit,
    LedgerError,
    RedisError,
    RedisUnfit,
    SecretUnusable,
    ValkeyUnavailable,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    asked = command_line().parse_args(arguments)
    settings = load_settings_or_exit()
    try:
        exit_code = _run(asked, settings)
        sys.stdout.flush()
        return exit_code
    except _REFUSALS as refusal:
        print(f"callsheetd: {_one_line(refusal)}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has seen enough; the interpreter must not flush into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(asked: argparse.Namespace, settings: Settings) -> int:
    if asked.command == "up":
        return run_up(settings, console=Console(as_json=asked.json))
    if asked.command == "demo":
        from callsheet.embedded.demo import run_demo  # noqa: PLC0415  # the brain's protocol takes a second to load

        return run_demo(settings)
    if asked.command == "demo-media":
        from callsheet.embedded.demo_media import run_media_demo  # noqa: PLC0415  # loads the client

        return run_media_demo(settings)
    if asked.command == "doctor":
        # What its clients log of parts that are away is what it tells itself.
        quiet = settings.model_copy(update={"log_level": "error"})
        configure_logging(quiet, process="callsheetd")
        from callsheet.embedded.doctor import run_doctor  # noqa: PLC0415  # loads the client of every part

        return run_doctor(settings, as_json=asked.json)
    configure_logging(settings, process="callsheetd")
    if asked.command == "models":
        return models_command(settings, asked)
    _do(asked, settings)
    return 0


def _do(asked: argparse.Namespace, settings: Settings) -> None:
    match asked.command, getattr(asked, "action", None):
        case "settings", _:
            print_settings(settings, as_json=asked.json)
        case "keys", "create":
            asyncio.run(
                keys_create(settings, projects=asked.project, roles=asked.role, as_json=asked.json)
            )
        case "keys", "list":
            asyncio.run(keys_list(settings, as_json=asked.json))
        case "keys", _:
            asyncio.run(keys_revoke(settings, key_id=asked.key_id, as_json=asked.json))
        case "webhooks", _:
            asyncio.run(webhooks_command(settings, asked))
        case "media", _:
            asyncio.run(media_command(settings, asked))
        case room, _:
            _become(room, settings)


def _become(room: str, settings: Settings) -> None:
    """Replace this process by the room's. Raises CommandRefused when there is no Redis for it."""
    command = room_command(room)
    if room == BRAIN:
        os.execv(command[0], command)  # noqa: S606  # no shell is wanted
    url = settings.redis_url or running_embedded_url(settings)
    if url is None:
        raise CommandRefused(
            f"REDIS_URL is not set, and no `callsheetd up` runs in {settings.state_dir}"
        )
    os.execve(command[0], command, {**os.environ, "REDIS_URL": url})  # noqa: S606  # no shell is wanted


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
