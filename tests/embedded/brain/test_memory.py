"""What is remembered of a task, in whatever order its events come."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from callsheet.embedded.brain.memory import Memory, decode, encode
from callsheet.embedded.brain.messages import TaskEventWrite
from tests.support.embedded_brains import heard, story

STORY = [TaskEventWrite.model_validate(event) for event in story("t")]
LATE = heard("t", 6, "media_registered", media=[{"uri": "u", "payload_media_id": "m"}])
LATER = heard("t", 7, "media_registered", media=[{"uri": "v", "payload_media_id": "n"}])


def remembered(events: list[TaskEventWrite], *, place: int = 1) -> Memory:
    memory = Memory(project="default", task_id="t", first_time=2**62)
    for event in events:
        memory.learn(event, (place, event.sequence))
    return memory


@given(st.permutations([*STORY, LATE, LATER]))
def test_the_order_in_which_events_come_makes_no_difference(events: list[TaskEventWrite]) -> None:
    assert remembered(events) == remembered([*STORY, LATE, LATER])


@given(st.lists(st.sampled_from([*STORY, LATE]), max_size=12))
def test_events_that_come_again_make_no_difference(again: list[TaskEventWrite]) -> None:
    assert remembered([*STORY, LATE, *again]) == remembered([*STORY, LATE])


def test_a_whole_task_is_remembered() -> None:
    memory = remembered([*STORY, LATE])
    assert memory.get("status") == "completed"
    assert memory.get("event") == "media_registered"
    assert memory.get("media") == [{"uri": "u", "payload_media_id": "m"}]
    assert memory.artifacts == ["file:///projects/default/t.png"]
    assert memory.failure is None
    assert [_told(memory.attempts[n]) for n in (1, 2)] == [
        ("failed", "host-1", "OUT_OF_MEMORY"),
        ("completed", "host-1", None),
    ]


def test_media_that_are_registered_one_after_the_other_are_all_remembered() -> None:
    media = remembered([*STORY, LATE, LATER]).get("media")
    assert [each["payload_media_id"] for each in media] == ["m", "n"]


def test_what_came_after_the_end_does_not_open_an_attempt_again() -> None:
    late = heard("t", 6, "media_registered", attempt=2, media=[])
    assert remembered([*STORY, late]).attempts[2]["status"].value == "completed"


def test_a_task_that_failed_says_why() -> None:
    failure = {"reason": "TIME_LIMIT", "message": "too long", "retryable": False}
    memory = remembered([STORY[0], heard("t", 2, "failed", failure=failure)])
    assert memory.failure == failure


def test_a_submission_that_comes_last_still_says_when_it_was() -> None:
    memory = remembered([*STORY[1:], STORY[0]])
    assert memory.submit_time == remembered(STORY[:1]).submit_time
    assert memory.get("text") == "a cat in the rain"
    assert memory.get("status") == "completed"


def test_a_later_epoch_outranks_every_sequence_of_an_earlier_one() -> None:
    memory = remembered(STORY)
    memory.learn(heard("t", 2, "started", attempt=1), (2, 2))
    assert memory.get("status") == "processing"
    memory.learn(heard("t", 6, "failed"), (1, 6))
    assert memory.get("status") == "processing"


def test_what_is_kept_is_the_memory_but_for_spec_and_output() -> None:
    memory = remembered([*STORY, LATE])
    again = decode(encode(memory), project="default", task_id="t")
    for name in ("spec", "output"):
        assert again.fields[name].rank == memory.fields[name].rank
        assert again.get(name) is None
        del again.fields[name], memory.fields[name]
    assert again == memory


def test_attempts_past_a_hundred_are_not_remembered_one_by_one() -> None:
    memory = remembered([heard("t", n, "started", attempt=n) for n in (1, 100, 101)])
    assert sorted(memory.attempts) == [1, 100]
    assert memory.get("attempt") == 101


def _told(fields: dict[str, Any]) -> tuple[str, str, str | None]:
    failure = fields["failure"].value["reason"] if "failure" in fields else None
    return fields["status"].value, fields["worker"].value, failure
