"""Submissions answered with what equal ones made: asked for, and told, by client and command."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from callsheet.client import CallError, Submission, TaskClient
from callsheet.client.cli.render import event_text, queue_table, task_text
from callsheet.client.submission import REUSE_MODES, SubmitOptions, to_request
from callsheet.client.testing import hold, running_fake, succeed
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1 import task_event_pb2, task_pb2
from callsheet.v1.operations_service_pb2 import Queue
from callsheet.v1.task_service_pb2 import (
    REUSE_MODE_RESULT,
    SUBMIT_OUTCOME_CREATED,
    SUBMIT_OUTCOME_JOINED,
    SUBMIT_OUTCOME_REPEATED,
    SUBMIT_OUTCOME_REUSED,
    SUBMIT_OUTCOME_UNSPECIFIED,
    ReuseMode,
)
from tests.client.conftest import QUICK
from tests.client.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    from callsheet.client import AsyncTaskClient
    from callsheet.client.testing import FakeTaskService

FOX = GenerateImageInput(prompt="a fox", seed=7)
DRAWN = GenerateImageOutput(seed=7, model="tiny")


def test_the_request_says_what_may_answer_it() -> None:
    options = SubmitOptions(reuse="result", reuse_max_age=timedelta(hours=1))
    reuse = to_request(FOX, options=options, project="").reuse
    assert reuse.mode == REUSE_MODE_RESULT
    assert reuse.max_age.ToTimedelta() == timedelta(hours=1)
    assert not to_request(FOX, options={}, project="").HasField("reuse")


def test_every_mode_of_the_contract_has_a_word() -> None:
    assert set(REUSE_MODES.values()) == set(ReuseMode.values())


async def test_the_handle_tells_how_the_submission_was_answered(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    waiting = hold()
    fake.script(GenerateImageInput, waiting, succeed(DRAWN))
    made = await client.submit(FOX, reuse="result-or-join", request_id="r-1")
    joined = await client.submit(FOX, reuse="result-or-join")
    again = await client.submit(FOX, reuse="result-or-join", request_id="r-1")
    waiting.release()
    assert await made.result() == DRAWN
    reused = await client.submit(FOX, output=GenerateImageOutput, reuse="result")
    assert [each.outcome for each in (made, joined, again, reused)] == [
        SUBMIT_OUTCOME_CREATED,
        SUBMIT_OUTCOME_JOINED,
        SUBMIT_OUTCOME_REPEATED,
        SUBMIT_OUTCOME_REUSED,
    ]
    assert joined.id == again.id == made.id
    assert reused.task.reused_from == made.id
    assert await reused.result() == DRAWN
    assert client.handle(made.id).outcome == SUBMIT_OUTCOME_UNSPECIFIED


async def test_who_does_not_ask_is_answered_with_a_task_of_his_own(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    await (await client.submit(FOX, reuse="result")).result()
    assert (await client.submit(FOX)).outcome == SUBMIT_OUTCOME_CREATED
    ping = PingInput(echo="never cached")
    await (await client.submit(ping, reuse="result")).result()
    assert (await client.submit(ping, reuse="result")).outcome == SUBMIT_OUTCOME_CREATED


async def test_every_item_of_many_has_its_outcome(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(GenerateImageInput, hold())
    asked = [Submission(FOX, options={"reuse": "result-or-join"}), Submission(FOX)]
    answers = await client.submit_many([asked[0], *asked])
    outcomes = [each.outcome for each in answers if not isinstance(each, CallError)]
    assert outcomes == [SUBMIT_OUTCOME_CREATED, SUBMIT_OUTCOME_JOINED, SUBMIT_OUTCOME_CREATED]


def test_the_command_says_what_answered(tmp_path: Path) -> None:
    with running_fake() as fake:
        fake.script(GenerateImageInput, succeed(DRAWN))
        shell = Shell(tmp_path, CALLSHEET_GRPC_ADDRESS=fake.address, CALLSHEET_API_KEY=fake.key)
        submit = ("submit", "generate_image", "--prompt", "a fox", "--seed", "7", "--wait")
        shell.ok(*submit, "--reuse", "result-or-join")
        with TaskClient(fake.address, key=fake.key, backoff=QUICK) as client:
            (made,) = client.list()
        done = shell.run(*submit, "--reuse", "result", "--reuse-max-age", "1h")
        assert f"answered with the output of task {made.id}" in done.stderr
        code, line = shell.refused(*submit, "--reuse", "nonsense")
        assert code != 0
        assert "result-or-join" in line
    assert fake.submissions[-1].reuse.max_age.seconds == 3600


@pytest.mark.parametrize(
    ("hits", "misses", "joins", "share"), [(2, 1, 1, "75%"), (0, 4, 0, "0%"), (0, 0, 0, "-")]
)
def test_the_table_of_queues_shows_how_often_reuse_helped(
    hits: int, misses: int, joins: int, share: str
) -> None:
    queue = Queue(name="gpu", task_types=["generate_image"])
    queue.reuse.add(task_type="generate_image", hits=hits, misses=misses, joins=joins)
    heading, line = queue_table([queue])
    column = heading.split().index("REUSED") + 2  # BUSY is three words in its line
    assert line.split()[column] == share


def test_a_task_tells_where_its_output_is_from_and_how_good_it_is() -> None:
    task = task_pb2.Task(id="t", reused_from="another")
    task.quality.measure, task.quality.score = "image-focus-exposure-1", 0.5
    text = task_text(task)
    assert "the output of another" in text
    assert "0.50 by image-focus-exposure-1" in text


def test_what_was_known_and_registered_is_told_in_a_line() -> None:
    event = task_event_pb2.TaskEvent()
    event.context_retrieved.context.knowledge.add(text="the fox is red")
    assert event_text(event) == "was given what is known: 1 of the project, 0 similar tasks"
    event = task_event_pb2.TaskEvent()
    event.media_registered.media.add(uri="file:///a", payload_media_id="1")
    assert event_text(event) == "the media library has 1 of its artifacts"
    event = task_event_pb2.TaskEvent()
    event.task_succeeded.reused_from = "another"
    assert event_text(event) == "succeeded with the output of task another"
