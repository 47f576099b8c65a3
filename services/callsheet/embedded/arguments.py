"""The command line of `callsheetd`."""

import argparse
from collections.abc import Callable
from typing import Final

from callsheet.embedded.embedded_brain import BRAIN, BRAIN_MODULE
from callsheet.embedded.gateway_room import GATEWAY
from callsheet.embedded.media_commands import add_media
from callsheet.embedded.model_arguments import add_models
from callsheet.embedded.up import ROOMS
from callsheet.embedded.webhook_arguments import add_webhooks
from callsheet.ledger.access import Role

#: The method of argparse that adds a command, whose class is private.
AddParser = Callable[..., argparse.ArgumentParser]

_EPILOG: Final = """\
exit codes:
  0   done, or stopped as asked
  1   refused or failed; one line on stderr says why
  2   the command line is wrong
  3   stopped as asked, but had to be cut short
  78  a setting is wrong or unknown; one line a variable on stderr
  130 interrupted by Ctrl-C

Everything is configured by environment variables; `callsheetd settings` shows them all."""

_ROOM_SUMMARIES: Final = {
    BRAIN: "run the embedded brain, a graph of tasks that is searched by meaning",
    "control": "run the gRPC control plane",
    GATEWAY: "run the gateway: REST, WebSocket rooms, the dashboard, health and documentation",
    "upkeep": "run the rescuer, the scheduler and the pruner",
    "worker": "run a worker",
    "sidecar": "run the sidecar, which sends webhooks",
}

_BRAIN_DESCRIPTION: Final = (
    f"Become the process `python -m callsheet.{BRAIN_MODULE}`: MCP over WebSocket at "
    "CALLSHEET_BRAIN_ADDRESS. Its token is CALLSHEET_BRAIN_TOKEN, or made and kept in "
    "CALLSHEET_STATE_DIR/brain.token."
)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of `callsheetd`; its help texts are its documentation."""
    parser = argparse.ArgumentParser(
        prog="callsheetd",
        description="Runs the processes of the Callsheet task plane.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_up(commands.add_parser)
    commands.add_parser(
        "demo",
        help="run one image task from its submission to its signed webhook",
        description="Bring a plane of its own up in CALLSHEET_STATE_DIR/demo, submit one image "
        "task, show its progress, its image and the webhook that a small receiver gets, find the "
        "task again in the brain by other words, and take the plane down, or with KEEP=1 in the "
        "environment only at Ctrl-C. The last line of the story is one JSON object.",
    )
    commands.add_parser(
        "demo-media",
        help="make a small film: an image, a video from it, a soundtrack, and all joined",
        description="Bring a plane of its own up in CALLSHEET_STATE_DIR/demo-media, make an image, "
        "a video that begins with it, a soundtrack, and a film of both, on tiny models with random "
        "weights. Shows progress and previews; kills the runner with signal 9 while it denoises "
        "the video, which another attempt goes on with. Each file is opened and checked, and the "
        "last line of the story is one JSON object.",
    )
    for room in ROOMS:
        commands.add_parser(
            room,
            help=_ROOM_SUMMARIES[room],
            description=_BRAIN_DESCRIPTION
            if room == BRAIN
            else f"Become the process `python -m callsheet.{room}`, on the Redis of "
            "REDIS_URL, or on the embedded Valkey of a `callsheetd up` that runs.",
        )
    doctor = commands.add_parser(
        "doctor",
        help="say how every part is, and what mends it",
        description="Look at every part of the plane from this machine: its Redis servers, "
        "control, gateway, the workers of each queue, the sidecar, the brain, PayloadCMS, the "
        "artifacts' store, and the machine. Nothing is changed. Exit code 1: something is down.",
    )
    _add_json(doctor, "one object")
    _add_keys(commands.add_parser)
    add_webhooks(commands.add_parser)
    add_media(commands.add_parser)
    add_models(commands.add_parser)
    settings = commands.add_parser(
        "settings",
        help="show every setting and every service, and where that is from",
        description="Show every setting: variable, value (secrets masked), source, meaning. Then "
        "the registry: where each service of the platform is in this environment.",
    )
    _add_json(settings, "one object with two arrays")
    return parser


def _add_up(add_parser: AddParser) -> None:
    up = add_parser(
        "up",
        help="run everything on this machine",
        description="Run control, gateway, upkeep, worker and sidecar, unless REDIS_URL is set the "
        "embedded Valkey, and unless BRAIN_WS_URL is set the embedded brain, until Ctrl-C. All "
        "state is kept in CALLSHEET_STATE_DIR; another start finds it again. Prints the line "
        "`ready` when everything runs.",
    )
    _add_json(up, "instead of text, one object when everything is ready")


def _add_keys(add_parser: AddParser) -> None:
    keys = add_parser(
        "keys",
        help="make, list and revoke API keys",
        description="Make, list and revoke API keys.",
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create",
        help="make a key and print its text, once",
        description="Make a key. Its text is printed once and kept nowhere.",
    )
    create.add_argument(
        "--project", action="append", required=True, help="a project it opens; may be repeated"
    )
    create.add_argument(
        "--role",
        action="append",
        required=True,
        choices=[role.value for role in Role],
        help="what it allows; may be repeated",
    )
    _add_json(create, "one object")
    listing = actions.add_parser(
        "list", help="list keys, oldest first", description="List keys, never their texts."
    )
    _add_json(listing, "one array of objects")
    revoke = actions.add_parser(
        "revoke", help="make a key invalid", description="Make a key invalid from now on."
    )
    revoke.add_argument("key_id", metavar="ID", help="the key's id: the 8 digits after cs_")
    _add_json(revoke, "one object")


def _add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what}")
