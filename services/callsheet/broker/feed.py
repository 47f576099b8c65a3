"""Where claims, made on the event loop, meet Dramatiq's threads."""

from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Final

from dramatiq import Message
from dramatiq.broker import MessageProxy

#: The one Dramatiq queue. A consumer thread per ledger queue would hoard what another could run.
QUEUE: Final = "callsheet"


class Feed:
    """Carries claimed attempts to the threads.

    *unused* is told, in a Dramatiq thread, the task id and attempt of each that no thread took
    before the worker stopped.
    """

    def __init__(self, *, unused: Callable[[str, int], None]) -> None:
        self._messages: SimpleQueue[MessageProxy] = SimpleQueue()
        self._unused = unused

    def put(self, *, actor: str, task_id: str, attempt: int) -> None:
        """Hand an attempt to the threads."""
        message: Message[None] = Message(
            queue_name=QUEUE,
            actor_name=actor,
            args=(task_id, attempt),
            kwargs={},
            options={},
            message_id=f"{task_id}/{attempt}",
        )
        self._messages.put(MessageProxy(message))

    def take(self, *, timeout: timedelta) -> MessageProxy | None:
        """Return the next message, or None after the timeout."""
        try:
            return self._messages.get(timeout=timeout.total_seconds())
        except Empty:
            return None

    def unused(self, message: MessageProxy) -> None:
        """Note that no thread will take the message."""
        task_id, attempt = message.args
        self._unused(str(task_id), int(attempt))

    def drain(self) -> None:
        """Note so of everything that still waits here."""
        while True:
            try:
                self.unused(self._messages.get_nowait())
            except Empty:
                return
