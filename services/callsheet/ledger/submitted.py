"""The record of a submission, which is on the way of every task that there is.

What many share is encoded once, and the spec is bytes already.
"""

from functools import lru_cache
from typing import Final

from callsheet.ledger.messages import EVENT_TO_PROTO, write_duration
from callsheet.ledger.model import NO_TIME, Submission, Terms
from callsheet.ledger.wire import length_delimited
from callsheet.v1.task_event_pb2 import TaskSubmitted

_SPEC: Final = TaskSubmitted.SPEC_FIELD_NUMBER


def encode_submission(submission: Submission) -> bytes:
    """Return the bytes of a TaskSubmitted."""
    return _shared(submission.terms) + length_delimited(_SPEC, submission.spec) + _own(submission)


@lru_cache(maxsize=1024)
def _shared(terms: Terms) -> bytes:
    message = TaskSubmitted(
        project=terms.project,
        queue=terms.queue,
        priority=terms.priority,
        max_attempts=terms.max_attempts,
    )
    write_duration(message.time_limit, terms.time_limit)
    if terms.delay > NO_TIME:
        write_duration(message.delay, terms.delay)
    if terms.expire_after is not None:
        write_duration(message.expire_after, terms.expire_after)
    return message.SerializeToString()


def _own(submission: Submission) -> bytes:
    """Return what a submission has to itself, beside its spec; most have nothing."""
    message = TaskSubmitted()
    if submission.metadata:
        message.metadata.update(submission.metadata)
    if submission.trace_parent:
        message.trace_parent = submission.trace_parent
    if submission.retry_of:
        message.retry_of = submission.retry_of
    if submission.callback_url:
        message.callback.url = submission.callback_url
        for event in submission.callback_events:
            message.callback.events.append(EVENT_TO_PROTO[event])
    if submission.reuse is not None:
        message.reuse.digest = bytes.fromhex(submission.reuse.digest)
        write_duration(message.reuse.ttl, submission.reuse.ttl)
        for field, name, revision in submission.reuse.models:
            message.reuse.models.add(field=field, name=name, revision=revision)
    return message.SerializeToString()
