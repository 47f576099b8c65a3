"""Where claims, made on the event loop, meet Dramatiq's threads."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Final

from dramatiq import Message
from dramatiq.broker import MessageProxy

#: The one Dramatiq queue. A consumer thread per ledger queue would hoard what another could run.
QUEUE: Final = "callsheet"

#: How long the loop lets go of the interpreter's lock, so that a thread may begin at once: the
#: loop would keep it for longer with what it does next. As short as the kernel can.
_LET_GO_SECONDS: Final = 0.00002


class Feed:
    """Carries claimed attempts to the threads.

    *unused* is told, in a Dramatiq thread, the task id and attempt of each that no thread took
    before the worker stopped.
    """

    def __init__(self, *, unused: Callable[[str, int], None]) -> None:
        self._claimed: SimpleQueue[Sequence[MessageProxy]] = SimpleQueue()
        #: What the consumer's thread has taken and not passed on yet.
        self._taken: deque[MessageProxy] = deque()
        self._unused = unused
        self._handle: Callable[[MessageProxy], None] | None = None
        self._is_consumed = False

    def shorten(self, handle: Callable[[MessageProxy], None]) -> None:
        """From its first look on, spare the consumer's thread: hand messages to *handle* at once.

        *handle* is what that thread would call with them; to wait for its turn costs a third of
        what an idle worker needs to begin.
        """
        self._handle = handle

    def put(self, attempts: Sequence[tuple[str, str, int]], *, idle: bool = False) -> None:
        """Hand attempts (actor, task id, attempt) to the threads; *idle*: they do nothing else."""
        messages = [_message(*attempt) for attempt in attempts]
        if self._handle is None or not self._is_consumed:
            self._claimed.put(messages)
            return
        for message in messages:
            self._handle(message)
        if idle:
            time.sleep(_LET_GO_SECONDS)  # noqa: TID251  # gives the lock away, and waits for nothing

    def take(self, *, timeout: timedelta) -> MessageProxy | None:
        """Return the next message, or None after the timeout."""
        # Whoever looks has a consumer, which acknowledges what its thread never saw as well.
        self._is_consumed = True
        if not self._taken:
            try:
                self._taken.extend(self._claimed.get(timeout=timeout.total_seconds()))
            except Empty:
                return None
        return self._taken.popleft()

    def unused(self, message: MessageProxy) -> None:
        """Note that no thread will take the message."""
        task_id, attempt = message.args
        self._unused(str(task_id), int(attempt))

    def drain(self) -> None:
        """Note so of everything that still waits here."""
        while True:
            while self._taken:
                self.unused(self._taken.popleft())
            try:
                self._taken.extend(self._claimed.get_nowait())
            except Empty:
                return


def _message(actor: str, task_id: str, attempt: int) -> MessageProxy:
    message: Message[None] = Message(
        queue_name=QUEUE,
        actor_name=actor,
        args=(task_id, attempt),
        kwargs={},
        options={},
        message_id=f"{task_id}/{attempt}",
    )
    return MessageProxy(message)
