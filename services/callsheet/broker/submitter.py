"""Lets `actor.send()` submit tasks from a thread."""

import asyncio
from datetime import timedelta
from typing import Final

from google.protobuf.message import Message

from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.access import Principal
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.model import Task
from callsheet.v1.task_spec_pb2 import TaskSpec

_TIMEOUT: Final = timedelta(seconds=30)


class Submitter:
    """Submits for one principal, to a ledger that lives on *loop*."""

    def __init__(
        self, ledger: Ledger, principal: Principal, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._ledger = ledger
        self._principal = principal
        self._loop = loop

    def __call__(self, task_type: str, input: Message, delay: timedelta) -> str:
        """Submit the input as a task of that type; return the task's id."""
        spec = TaskSpec()
        arm: Message = getattr(spec, task_type)
        arm.CopyFrom(input)
        arm.SetInParent()
        command = SubmitCommand(
            spec=spec.SerializeToString(deterministic=True), task_type=task_type, delay=delay
        )
        submitting = asyncio.run_coroutine_threadsafe(self._submit(command), self._loop)
        return submitting.result(timeout=_TIMEOUT.total_seconds()).id

    async def _submit(self, command: SubmitCommand) -> Task:
        return await self._ledger.submit(self._principal, command)
