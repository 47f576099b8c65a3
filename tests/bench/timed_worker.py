"""A worker whose pings answer the moment at which their actor started, by the monotonic clock."""

import sys
import time

from callsheet.handlers import ping
from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.worker.main import main


def run(input: PingInput, context: TaskContext) -> PingOutput:
    """Answer the time in nanoseconds, which all processes of one machine share."""
    del input, context
    return PingOutput(echo=str(time.monotonic_ns()))


if __name__ == "__main__":
    ping.run = run
    sys.exit(main())
