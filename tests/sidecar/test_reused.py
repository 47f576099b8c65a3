"""A task that was answered with the output of another one is told of like any other."""

import json

from callsheet.ledger.acceptance import Outcome
from callsheet.ledger.codec import parse_event
from callsheet.ledger.delivery_model import DeliveryRecord
from callsheet.sidecar.body import Story, body_of
from callsheet.sidecar.brain_facts import fact_of
from tests.support.ledgers import OWNER, memory_cell
from tests.support.reusing import image, succeed


async def test_a_reused_task_has_its_webhook_and_its_place_in_the_brain() -> None:
    plane = memory_cell()
    source = await succeed(plane, (await plane.ledger.submit(OWNER, image())).id)
    task, outcome = await plane.ledger.accept(OWNER, image(metadata={"shot": "2"}))
    assert outcome is Outcome.REUSED
    # The webhook tells of its own id and words, and of the other's output
    facts = [parse_event(fact) for fact in await plane.store.facts(task.id, after=0, limit=9)]
    record = DeliveryRecord(
        task_id=task.id,
        sequence=2,
        epoch="e",
        url="https://example.com/hook",
        create_time=task.create_time,
        event="completed",
    )
    body = json.loads(body_of(record, Story(facts[0], facts[1], None, ())))
    assert (body["task_id"], body["status"], body["metadata"]) == (
        task.id,
        "completed",
        {"shot": "2"},
    )
    assert (body["sequence"], body["attempt"]) == (2, 0)
    assert body["result"]["media_url"] == f"file:///{source.id}.png"
    assert body["result"]["metadata"]["processing_time"] == 0
    # And the brain is told two facts, as of any task that ended
    submitted = facts[0].task_submitted
    told = [fact_of(each, submitted, task_id=task.id, epoch="e") for each in facts]
    assert [each["event"] for each in told] == ["submitted", "succeeded"]
    # The output and its quality are the source's, and stand there.
    assert told[1].get("derived_from") == source.id
    assert {"artifacts", "quality"}.isdisjoint(told[1])
