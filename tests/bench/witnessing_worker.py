"""A worker whose pings tell the bench that they ran, as the tasks of every contender do."""

import sys

from callsheet.handlers import ping
from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.worker.main import main
from tests.bench.callsheet_stack import TIMED
from tests.bench.witness.witness import WITNESS


def run(input: PingInput, context: TaskContext) -> PingOutput:
    """Do nothing, and have it noted."""
    del context
    WITNESS.ran(timed=input.echo == TIMED)
    return PingOutput()


if __name__ == "__main__":
    ping.run = run
    sys.exit(main())
