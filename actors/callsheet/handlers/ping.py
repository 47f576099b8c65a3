"""Take the given time and answer."""

from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput


def run(input: PingInput, context: TaskContext) -> PingOutput:
    """Return the echo after the duration."""
    if input.HasField("duration"):
        context.wait(input.duration.ToTimedelta())
    return PingOutput(echo=input.echo)
