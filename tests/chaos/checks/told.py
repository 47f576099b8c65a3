"""Invariants 7 and 8: webhooks and the brain tell what happened, all of it, and nothing else."""

from collections import defaultdict
from typing import Final

from tests.chaos.checks.report import Invariant, Report
from tests.chaos.checks.view import FINAL_FACTS, View
from tests.chaos.final_state import BrainFact, Receiver, StoredFact, StoredTask
from tests.chaos.history import WebhookReceived

#: What a webhook calls each fact: its status and its event.
WEBHOOK_WORDS: Final = {
    "task_submitted": ("queued", "queued"),
    "attempt_started": ("processing", "started"),
    "attempt_failed": ("queued", "retrying"),
    "attempt_returned": ("queued", "retrying"),
    "cancel_requested": ("processing", "cancelled"),
    "task_succeeded": ("completed", "completed"),
    "task_failed": ("failed", "failed"),
    "task_cancelled": ("failed", "cancelled"),
}
#: What a callback asks for to be told an event before the end.
_WISHES: Final = {
    "queued": "QUEUED",
    "started": "STARTED",
    "retrying": "RETRYING",
    "cancelled": "CANCELLED",
    "progress": "PROGRESS",
}
#: What the brain calls each fact.
BRAIN_WORDS: Final = {
    "task_submitted": "submitted",
    "attempt_started": "started",
    "attempt_failed": "retrying",
    "attempt_returned": "returned",
    "cancel_requested": "cancel_requested",
    "task_succeeded": "succeeded",
    "task_failed": "failed",
    "task_cancelled": "cancelled",
    "media_registered": "media_registered",
    "context_retrieved": "context_retrieved",
}
#: Facts that the brain is not told: they say nothing of what a task is.
_UNTOLD: Final = frozenset({"checkpoint_saved"})


def check_webhooks(view: View, report: Report) -> None:
    """Check what receivers got against the facts."""
    for webhook in view.of(WebhookReceived):
        _check_webhook(view, webhook, report)
    _check_ids(view, report)
    for task in view.final.tasks:
        receiver = _receiver(view, task)
        if receiver is not None and receiver.honest:
            _check_arrived(view, task, receiver, report)
    _check_left(view, report)


def _check_webhook(view: View, webhook: WebhookReceived, report: Report) -> None:
    about = webhook.webhook_id
    sentence = f"the signature of a webhook to {webhook.receiver} is not valid"
    report.expect(Invariant.TOLD, about, webhook.signature_valid, sentence)
    task = view.tasks.get(webhook.task_id)
    fact = _fact(task, webhook.sequence)
    sentence = f"it tells of {webhook.task_id}/{webhook.sequence}, {webhook.event}: no such fact"
    report.expect(Invariant.TOLD, about, fact, sentence)
    if task is None or fact is None:
        return
    said = (webhook.status, webhook.event)
    told = WEBHOOK_WORDS.get(fact.fact) if webhook.event != "progress" else None
    wanted = told or ("processing", "progress")
    sentence = f"it says {said} of fact {fact.sequence}, {fact.fact}"
    report.expect(Invariant.TOLD, about, said == wanted, sentence)
    asked = fact.fact in FINAL_FACTS or _WISHES.get(webhook.event, "") in task.callback_events
    report.expect(Invariant.TOLD, about, asked, f"nobody asked to be told {webhook.event}")
    attempts = [f.attempt for f in task.facts if f.fact == "attempt_started"]
    known = webhook.attempt in (0, *attempts)
    report.expect(Invariant.TOLD, about, known, f"it tells of attempt {webhook.attempt}")
    receiver = _receiver(view, task)
    here = receiver is not None and receiver.name == webhook.receiver
    sentence = f"{webhook.receiver} got a webhook that is for {task.callback_url or 'nobody'}"
    report.expect(Invariant.APART, about, here, sentence)
    sentence = f"it names project {webhook.project} for a task of {task.project}"
    report.expect(Invariant.APART, about, webhook.project == task.project, sentence)


def _check_ids(view: View, report: Report) -> None:
    """One fact has one id for ever, which is of epoch, task and sequence, and one body."""
    ids: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    bodies: defaultdict[str, set[str]] = defaultdict(set)
    for webhook in view.of(WebhookReceived):
        bodies[webhook.webhook_id].add(webhook.body_digest)
        expected = f"{view.final.epoch}_{webhook.task_id}_{webhook.sequence}"
        if webhook.event == "progress":
            rightly = webhook.webhook_id.startswith(f"{expected}-")
        else:
            rightly = webhook.webhook_id == expected
            ids[webhook.task_id, webhook.sequence].add(webhook.webhook_id)
        sentence = f"the id of a webhook of {webhook.task_id}/{webhook.sequence} is another's"
        report.expect(Invariant.TOLD, webhook.webhook_id, rightly, sentence)
    for (task_id, sequence), found in ids.items():
        sentence = f"fact {sequence} went out under several ids: {sorted(found)}"
        report.expect(Invariant.TOLD, task_id, len(found) == 1, sentence)
    for webhook_id, found in bodies.items():
        sentence = f"one id had {len(found)} different bodies"
        report.expect(Invariant.TOLD, webhook_id, len(found) == 1, sentence)


def _check_arrived(view: View, task: StoredTask, receiver: Receiver, report: Report) -> None:
    for fact in task.facts:
        if fact.fact in FINAL_FACTS:
            arrived = any(
                webhook.sequence == fact.sequence
                and webhook.receiver == receiver.name
                and 200 <= webhook.answered < 300
                for webhook in view.webhooks.get(task.task_id, ())
            )
            sentence = f"its end, fact {fact.sequence}, never arrived at {receiver.name}"
            report.expect(Invariant.TOLD, task.task_id, arrived, sentence)


def _check_left(view: View, report: Report) -> None:
    """A delivery may wait, or be given up, only where nobody takes it."""
    honest = [receiver.url for receiver in view.final.receivers if receiver.honest]
    for delivery in view.final.deliveries:
        if delivery.url.startswith(tuple(honest)):
            sentence = f"the webhook of fact {delivery.sequence} is {delivery.state}"
            done = delivery.state == "DELIVERED"
            report.expect(Invariant.TOLD, delivery.task_id, done, sentence)


def _receiver(view: View, task: StoredTask) -> Receiver | None:
    if not task.callback_url:
        return None
    receivers = view.final.receivers
    return next((each for each in receivers if task.callback_url.startswith(each.url)), None)


def _fact(task: StoredTask | None, sequence: int) -> StoredFact | None:
    facts = () if task is None else task.facts
    return next((fact for fact in facts if fact.sequence == sequence), None)


def check_brain(view: View, report: Report) -> None:
    """Check that the brain has each stored fact once, and nothing else."""
    epoch = view.final.epoch
    found: defaultdict[str, list[BrainFact]] = defaultdict(list)
    for written in view.final.brain:
        found[f"{written.epoch}/{written.task_id}/{written.sequence}"].append(written)
    for task in view.final.tasks:
        for fact in task.facts:
            key = f"{epoch}/{task.task_id}/{fact.sequence}"
            count = sum(written.count for written in found.get(key, ()))
            sentence = f"the brain has fact {fact.sequence}, {fact.fact}, {count} times"
            wanted = 0 if fact.fact in _UNTOLD else 1
            report.expect(Invariant.REMEMBERED, task.task_id, count == wanted, sentence)
    for key, several in found.items():
        for written in several:
            _check_written(view, key, written, report)
    for key in view.final.brain_dead:
        report.expect(Invariant.REMEMBERED, key, False, "the brain write was given up")


def _check_written(view: View, key: str, written: BrainFact, report: Report) -> None:
    task = view.tasks.get(written.task_id)
    fact = _fact(task, written.sequence) if written.epoch == view.final.epoch else None
    report.expect(Invariant.REMEMBERED, key, fact, "the brain has what never happened")
    if task is None or fact is None:
        return
    same = written.event == BRAIN_WORDS.get(fact.fact) and written.time in (0, fact.time)
    sentence = f"the brain has {written.event} at {written.time}; it was {fact.fact} at {fact.time}"
    report.expect(Invariant.REMEMBERED, key, same, sentence)
    sentence = f"the brain has it for {written.project}, and it is of {task.project}"
    report.expect(Invariant.APART, key, written.project == task.project, sentence)
