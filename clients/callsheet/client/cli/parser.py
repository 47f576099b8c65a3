"""The grammar of the command line; that of ``submit`` is read from the contract."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from callsheet.client.cli import commands
from callsheet.client.cli.connecting import add_connection
from callsheet.client.cli.exits import MEANINGS, Exit
from callsheet.client.cli.fields import add_fields
from callsheet.client.cli.spans import parse_span
from callsheet.client.operations import DELIVERY_STATES, WINDOWS
from callsheet.client.submission import CALLBACK_EVENTS, REUSE_MODES
from callsheet.client.task_types import task_types

if TYPE_CHECKING:
    from callsheet.client.cli.commands import Command

_STATES: Final = ("pending", "running", "succeeded", "failed", "cancelled")
_DEFAULT_WAIT: Final = "1h"


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, and takes no option by its first letters."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the parser's own arguments
        super().__init__(**options)
        # A new option must not change what an old script means by a shortened one.
        self.allow_abbrev = False

    def error(self, message: str) -> NoReturn:
        """End the program with one line and the code of an error of usage."""
        self.exit(Exit.USAGE.value, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Grammar:
    """Builds the commands, each with the options that all have."""

    def __init__(self) -> None:
        exits = "\n".join(f"  {code.value:<4} {meaning}" for code, meaning in MEANINGS.items())
        self.parser = _Parser(
            prog="callsheet",
            description="Submit tasks to the plane, and follow them.",
            epilog=f"exit codes:\n{exits}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._commands = self.parser.add_subparsers(metavar="COMMAND", required=True)
        self._json = _Parser(add_help=False)
        self._json.add_argument(
            "--json", action="store_true", help="answer in JSON, one object a line"
        )
        self._common = _Parser(add_help=False, parents=[self._json])
        add_connection(self._common)

    def add(self, name: str, command: Command, text: str) -> argparse.ArgumentParser:
        """Add a command that talks to the plane, and return its parser."""
        parser = self._commands.add_parser(
            name, help=text, description=text, parents=[self._common]
        )
        parser.set_defaults(command=command)
        return parser

    def add_submit(self) -> None:
        """Add ``submit`` with a command for each task type."""
        text = "submit a task and print its id"
        parser = self._commands.add_parser("submit", help=text, description=text)
        types = parser.add_subparsers(metavar="TASK_TYPE", required=True)
        submission = _Parser(add_help=False, parents=[self._common])
        _add_submission(submission)
        for task_type in task_types().values():
            each = types.add_parser(
                task_type.name,
                help=f"queue {task_type.policy.queue}",
                parents=[submission],
            )
            add_fields(each, task_type.input_class)
            each.set_defaults(command=commands.submit, task_type=task_type.name)

    def add_deliveries(self) -> None:
        """Add ``deliveries`` with its two commands."""
        text = "list the deliveries of webhooks, and replay them"
        parser = self._commands.add_parser("deliveries", help=text, description=text)
        actions = parser.add_subparsers(metavar="ACTION", required=True)
        text = "show deliveries: of a task, or newest first of a project"
        listing = actions.add_parser("list", help=text, description=text, parents=[self._common])
        listing.set_defaults(command=commands.list_deliveries)
        listing.add_argument("task_id", nargs="?", default="", metavar="TASK", help="the task's id")
        _add_delivery_filter(listing)
        listing.add_argument(
            "--limit", type=int, default=50, metavar="N", help="the most (default: 50; 0: all)"
        )
        text = "deliver once more what has ended, and at once what waits"
        replay = actions.add_parser("replay", help=text, description=text, parents=[self._common])
        replay.set_defaults(command=commands.replay_deliveries)
        one = replay.add_mutually_exclusive_group()
        one.add_argument("--id", default="", metavar="WEBHOOK_ID", help="that one")
        one.add_argument("--task", default="", metavar="TASK", help="those of a task")
        replay.add_argument(
            "--from-sequence", type=int, default=0, metavar="N", help="from its fact N on"
        )
        _add_delivery_filter(replay)
        replay.add_argument("--limit", type=int, metavar="N", help="the most (default: all)")

    def add_types(self) -> None:
        """Add ``types``, the one command that needs no plane."""
        text = "list the task types"
        parser = self._commands.add_parser(
            "types", help=text, description=text, parents=[self._json]
        )
        parser.set_defaults(command=commands.types)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    grammar = _Grammar()
    grammar.add_submit()
    _add_task_id(grammar.add("get", commands.get, "show a task as it is now"))
    _add_list(grammar.add("list", commands.list_tasks, "list tasks, newest first"))
    watch = grammar.add("watch", commands.watch, "follow a task to its end, or all tasks, live")
    watch.add_argument("task_id", nargs="?", default="", metavar="TASK", help="the task's id")
    watch.add_argument("--all", action="store_true", help="all tasks of the project, for ever")
    watch.add_argument("--after-sequence", type=int, default=0, metavar="N", help="facts seen")
    _add_timeout(watch)
    wait = grammar.add("wait", commands.wait, "wait until a task is final")
    _add_task_id(wait)
    _add_timeout(wait)
    cancel = grammar.add("cancel", commands.cancel, "ask a task to stop")
    _add_task_id(cancel)
    cancel.add_argument("--reason", default="", help="why, for the task's history")
    retry = grammar.add("retry", commands.retry, "submit a failed or cancelled task once more")
    _add_task_id(retry)
    retry.add_argument("--request-id", help="repeated with it, it is the same new task")
    _add_queues(grammar.add("queues", commands.queues, "show the queues, or pause one"))
    _add_workers(grammar.add("workers", commands.workers, "show the live workers, or hold one"))
    performance = grammar.add("performance", commands.performance, "show how tasks fared of late")
    performance.add_argument("--window", choices=tuple(WINDOWS), default="hour", help="how long")
    grammar.add("whoami", commands.whoami, "show what the key allows")
    grammar.add_deliveries()
    grammar.add_types()
    return grammar.parser


def _add_submission(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the submission")
    group.add_argument(
        "--json-input", metavar="FILE", help="read the input as protobuf JSON; - reads stdin"
    )
    group.add_argument("--priority", type=int, metavar="0-9", help="9 is the most urgent")
    group.add_argument("--delay", type=parse_span, metavar="SPAN", help="wait before the start")
    group.add_argument(
        "--expire-after", type=parse_span, metavar="SPAN", help="fail if not started by then"
    )
    group.add_argument("--callback-url", metavar="URL", help="where webhooks go")
    group.add_argument(
        "--callback-event",
        action="append",
        default=[],
        choices=tuple(CALLBACK_EVENTS),
        help="what they tell besides the end; may be repeated",
    )
    group.add_argument(
        "--metadata", action="append", default=[], metavar="KEY=VALUE", help="may be repeated"
    )
    group.add_argument("--request-id", help="repeated with it, it is the same task")
    group.add_argument(
        "--reuse",
        choices=tuple(REUSE_MODES),
        help="take the output of an equal task, or join one that has not ended",
    )
    group.add_argument(
        "--reuse-max-age", type=parse_span, metavar="SPAN", help="how old that output may be"
    )
    follow = group.add_mutually_exclusive_group()
    follow.add_argument("--watch", action="store_true", help="follow it to its end, live")
    follow.add_argument("--wait", action="store_true", help="wait for its result")
    _add_timeout(parser)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=_STATES, help="only tasks in this state")
    parser.add_argument("--task-type", default="", choices=tuple(task_types()), help="only these")
    parser.add_argument(
        "--limit", type=int, default=50, metavar="N", help="the most tasks (default: 50; 0: all)"
    )


def _add_queues(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--pause", metavar="QUEUE", help="let nobody claim its tasks any more")
    one.add_argument("--resume", metavar="QUEUE", help="let workers claim its tasks again")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--pause", metavar="WORKER", help="let it claim nothing; what it runs goes on")
    one.add_argument("--resume", metavar="WORKER", help="let it claim again")
    one.add_argument("--drain", metavar="WORKER", help="let what it runs end, and then itself")


def _add_delivery_filter(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which deliveries")
    group.add_argument("--state", choices=tuple(DELIVERY_STATES), help="only in this state")
    group.add_argument("--url", metavar="URL", help="only to this endpoint")
    group.add_argument("--after", type=_moment, metavar="TIME", help="recorded then or later")
    group.add_argument("--before", type=_moment, metavar="TIME", help="recorded before")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time like 2027-03-01T12:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _add_task_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task_id", metavar="TASK", help="the task's id")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=parse_span,
        default=parse_span(_DEFAULT_WAIT),
        metavar="SPAN",
        help=f"how long to follow or wait (default: {_DEFAULT_WAIT})",
    )
