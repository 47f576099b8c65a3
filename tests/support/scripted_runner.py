"""A runner whose `ping` does what its echo says, as bad handlers would; all else is the product's.

Started as a script, with the arguments of `python -m callsheet.runner`.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, cast

from google.protobuf.message import Message

from callsheet.runner.context import Handler, HandlerFailure, TaskContext, TaskStopped
from callsheet.runner.handlers import handler_for
from callsheet.runner.main import serve
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_pb2 import FAILURE_REASON_RATE_LIMITED

_LONG = timedelta(minutes=2)


def run(message: Message, context: TaskContext) -> Message:
    """Do what the echo says, after a report that it began."""
    echo = cast("PingInput", message).echo
    context.report(1, 2, echo)
    output = _SCRIPTS.get(echo, _nothing)(context)
    return output or PingOutput(echo=echo)


def resolve(task_type: str) -> Handler:
    """Return the script for `ping`, and the product's handler for everything else."""
    return run if task_type == "ping" else handler_for(task_type)


def _nothing(_: TaskContext) -> None:
    return


def _be_deaf(_: TaskContext) -> None:
    threading.Event().wait(_LONG.total_seconds())  # never asks whether to stop


def _finish_anyway(context: TaskContext) -> None:
    try:
        context.wait(_LONG)
    except TaskStopped:
        return


def _hoard(context: TaskContext) -> None:
    hoard = bytearray(b"x") * (512 * 2**20)
    _be_deaf(context)
    del hoard


def _store(context: TaskContext) -> None:
    context.put(b"never committed", media_type="text/plain", suffix="txt")


def _store_and_die(context: TaskContext) -> None:
    _store(context)
    os.kill(os.getpid(), signal.SIGKILL)


def _signal_itself(_: TaskContext) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)


def _tell_what_it_knows(context: TaskContext) -> PingOutput:
    known = [f"{each.source}: {each.text}" for each in context.knowledge]
    similar = [f"{each.task_id} {each.status}: {each.text}" for each in context.similar_tasks]
    return PingOutput(echo="\n".join([*known, *similar]))


def _tell_what_it_imports(_: TaskContext) -> PingOutput:
    is_imported = "torch" in sys.modules
    is_being_imported = any(thread.name == "import" for thread in threading.enumerate())
    return PingOutput(echo="torch" if is_imported or is_being_imported else "nothing")


def _raise(_: TaskContext) -> None:
    secret = "hf_" + "a" * 34
    raise RuntimeError(f"no luck\nwith {secret}" + " and more" * 100)


def _know_why(_: TaskContext) -> None:
    raise HandlerFailure(FAILURE_REASON_RATE_LIMITED, "come back later")


def _run_out(_: TaskContext) -> None:
    raise MemoryError


_SCRIPTS: Final[Mapping[str, Callable[[TaskContext], Message | None]]] = {
    "deaf": _be_deaf,
    "exits": lambda _: os._exit(3),
    "finishes anyway": _finish_anyway,
    "gives nonsense": lambda _: PingInput(),
    "greedy": _hoard,
    "knows why": _know_why,
    "polite": lambda context: context.wait(_LONG),
    "raises": _raise,
    "runs out": _run_out,
    "signals itself": _signal_itself,
    "stores": _store,
    "stores and dies": _store_and_die,
    "tells what it imports": _tell_what_it_imports,
    "tells what it knows": _tell_what_it_knows,
}


if __name__ == "__main__":
    serve(sys.argv[1:], resolve=resolve)
