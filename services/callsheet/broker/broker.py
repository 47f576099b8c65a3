"""The broker and its consumer: thin, because the ledger's queues do the work."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dramatiq
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import Middleware
from google.protobuf.message import Message as ProtoMessage

from callsheet.broker.feed import QUEUE, Feed

#: Submits an input message as a task of the named type after a delay, and returns the task's id.
Submit = Callable[[str, ProtoMessage, timedelta], str]


class SendingUnavailable(Exception):
    """The broker was built without a way to submit."""


class LedgerBroker(Broker):
    """Serves claimed attempts from *feed*; `actor.send(input)` submits a task through *submit*.

    Retries, delays, time limits and dead letters are the ledger's: no middleware for them belongs
    here.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        submit: Submit | None = None,
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(middleware=middleware or [])
        self._feed = feed
        self._submit = submit
        self.queues: dict[str, None] = {}
        self.declare_queue(QUEUE)

    def declare_queue(self, queue_name: str) -> None:
        """Declare the queue."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        """Return the names of the declared queues."""
        return set(self.queues)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> Consumer:
        """Return a consumer; it holds nothing beyond what was claimed, whatever *prefetch*."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        return LedgerConsumer(self._feed, timeout=timedelta(milliseconds=timeout))

    def enqueue(
        self, message: dramatiq.Message[Any], *, delay: int | None = None
    ) -> dramatiq.Message[Any]:
        """Submit a task; the message that returns bears the task's id.

        Raises:
            SendingUnavailable: the broker was built without a way to submit.
            TypeError: the message's only argument is not an input message.
        """
        if self._submit is None:
            raise SendingUnavailable("this broker runs attempts; submit through the client")
        arguments: tuple[object, ...] = tuple(message.args)
        if len(arguments) != 1 or not isinstance(arguments[0], ProtoMessage):
            raise TypeError(f"send() takes one input message of {message.actor_name}")
        self.emit_before("enqueue", message, delay)
        wait = timedelta(milliseconds=delay or 0)
        task_id = self._submit(message.actor_name, arguments[0], wait)
        sent = replace(message, message_id=task_id)
        self.emit_after("enqueue", sent, delay)
        return sent


class LedgerConsumer(Consumer):
    """Yields claimed attempts to Dramatiq's worker."""

    def __init__(self, feed: Feed, *, timeout: timedelta) -> None:
        self._feed = feed
        self._timeout = timeout

    def __next__(self) -> MessageProxy | None:
        """Return the next message, or None after the timeout."""
        return self._feed.take(timeout=self._timeout)

    def ack(self, message: MessageProxy) -> None:
        """Do nothing: the attempt's outcome goes into the ledger, which frees its slot."""

    def nack(self, message: MessageProxy) -> None:
        """Do nothing: a failure goes into the ledger as well."""

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give back attempts that no thread took."""
        for message in messages:
            self._feed.unused(message)
