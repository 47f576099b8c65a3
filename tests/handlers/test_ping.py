"""The task type ping."""

from datetime import timedelta
from unittest.mock import create_autospec

from google.protobuf.duration_pb2 import Duration

from callsheet.handlers import ping
from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.ping_pb2 import PingInput


def test_a_ping_without_a_duration_answers_at_once() -> None:
    context = create_autospec(TaskContext, instance=True)
    assert ping.run(PingInput(echo="hello"), context).echo == "hello"
    context.wait.assert_not_called()


def test_a_ping_takes_the_given_time() -> None:
    context = create_autospec(TaskContext, instance=True)
    ping.run(PingInput(duration=Duration(seconds=2, nanos=500_000_000)), context)
    context.wait.assert_called_once_with(timedelta(seconds=2.5))
