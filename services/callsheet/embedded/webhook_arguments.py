"""The command line of `callsheetd webhooks`."""

import argparse
import re
from collections.abc import Callable

#: The method of argparse that adds a command, whose class is private.
AddParser = Callable[..., argparse.ArgumentParser]


def add_webhooks(add_parser: AddParser) -> None:
    """Add `webhooks` with its groups: secret, origin, endpoint."""
    webhooks = add_parser(
        "webhooks",
        help="keep what receivers of webhooks need: secrets, keys, endpoints",
        description="Keep what receivers of webhooks need. What is changed counts for all that "
        "sidecars claim from then on.",
    )
    groups = webhooks.add_subparsers(dest="group", required=True, metavar="GROUP")
    _add_secret(groups.add_parser)
    _add_origin(groups.add_parser)
    _add_endpoint(groups.add_parser)


def _add_secret(add_parser: AddParser) -> None:
    secret = add_parser(
        "secret",
        help="show, rotate and finish rotating a project's secret",
        description="The secret (whsec_…) that signs a project's webhooks. Rotate it, give the new "
        "one to the receiver, then finish: in between both sign.",
    )
    actions = secret.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = _action(actions.add_parser, "show", "print the secrets that sign, the newest first")
    show.add_argument("--version", type=_version, help="print that one, whether it signs or not")
    _action(actions.add_parser, "rotate", "add a new secret, beside which the old one goes on")
    _action(actions.add_parser, "finish", "let the old secret go")


def _add_origin(add_parser: AddParser) -> None:
    origin = add_parser(
        "origin",
        help="say who gets an X-API-Key with a project's webhooks",
        description="Origins (https://host or https://host:port) that get an X-API-Key with a "
        "project's webhooks. No other address ever sees it.",
    )
    actions = origin.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = _action(actions.add_parser, "add", "register an origin, or its new key")
    add.add_argument("origin", metavar="ORIGIN", help="such as https://cms.example")
    add.add_argument(
        "--key-variable",
        metavar="NAME",
        help="the environment variable that holds the key; without it, stdin is read",
    )
    _action(actions.add_parser, "list", "list origins, never their keys", project_needed=False)
    remove = _action(actions.add_parser, "remove", "send an origin no key any more")
    remove.add_argument("origin", metavar="ORIGIN", help="as it is listed")


def _add_endpoint(add_parser: AddParser) -> None:
    endpoint = add_parser(
        "endpoint",
        help="list and enable endpoints that take nothing",
        description="Endpoints that answered 410 are disabled: deliveries to them end at once.",
    )
    actions = endpoint.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "list disabled endpoints, and origins that failed lately"
    _action(actions.add_parser, "list", text, project_needed=False)
    enable = _action(actions.add_parser, "enable", "deliver to an endpoint again")
    enable.add_argument("url", metavar="URL", help="its URL, as it is listed")


def _action(
    add_parser: AddParser, name: str, text: str, *, project_needed: bool = True
) -> argparse.ArgumentParser:
    # No abbreviations: --key must not pass for --key-variable, and a key be told as its name.
    parser = add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    only = "the project" if project_needed else "only of this project"
    parser.add_argument("--project", required=project_needed, type=_project, help=only)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _project(text: str) -> str:
    if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a project's name")
    return text


def _version(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)
