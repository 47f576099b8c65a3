"""Where claims, made on the event loop, meet Dramatiq's threads."""

from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Final

from dramatiq import Message
from dramatiq.broker import MessageProxy

#: The one Dramatiq queue. A consumer thread per ledger queue would hoard what another could run.
QUEUE: Final = "callsheet"

#: Told of an attempt: task id and attempt.
Notify = Callable[[str, int], None]


class Feed:
    """Carries claimed attempts to the threads, and what became of them back.

    *ended* hears of each attempt whose actor returned or raised, *unused* of each that no thread
    took before the worker stopped; both from Dramatiq's threads.
    """

    def __init__(self, *, ended: Notify, unused: Notify) -> None:
        self._messages: SimpleQueue[MessageProxy] = SimpleQueue()
        self._ended = ended
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

    def ended(self, message: MessageProxy) -> None:
        """Note that the message's actor has returned or raised."""
        self._ended(*attempt_of(message))

    def unused(self, message: MessageProxy) -> None:
        """Note that no thread will take the message."""
        self._unused(*attempt_of(message))

    def drain(self) -> None:
        """Note so of everything that still waits here."""
        while True:
            try:
                self.unused(self._messages.get_nowait())
            except Empty:
                return


def attempt_of(message: MessageProxy) -> tuple[str, int]:
    """Return (task id, attempt) of a message."""
    task_id, attempt = message.args
    return str(task_id), int(attempt)
