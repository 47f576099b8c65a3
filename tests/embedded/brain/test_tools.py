"""The tools over a real socket, asked by the brain's own client and by the SDK's."""

import asyncio
import secrets
from datetime import timedelta
from typing import Any

import pytest
from mcp import Client

from callsheet.brain.brain import Brain
from callsheet.brain.errors import BrainRefused
from callsheet.brain.tools import Tool
from callsheet.brain.transport import Dialling, WebSocketTransport
from tests.support.embedded_brains import TOKEN, EmbeddedBrain, story, told
from tests.support.eventually import eventually

PROMPTS = (
    "a lighthouse on a cliff in the evening light",
    "two knights fight with swords on a burning bridge",
    "close-up of a rusty robot in the rain",
    "a wedding party dances in a barn",
    "an empty subway station, fluorescent light",
    "a submarine surfaces between icebergs",
    "a chef decorates a chocolate cake",
    "children build a snowman in front of a school",
    "an old woman feeds pigeons in the park",
    "a rocket launch seen from a crowded beach",
)


@pytest.fixture
def project() -> str:
    """A project nobody else uses."""
    return f"p-{secrets.token_hex(4)}"


async def test_the_brain_lists_its_tools_with_what_they_take_and_give(
    server: EmbeddedBrain,
) -> None:
    transport = WebSocketTransport(Dialling(url=server.url, token=TOKEN), tls=None)
    async with Client(transport, mode="auto") as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == {tool.value for tool in Tool}
        for tool in listed.values():
            assert tool.description
            assert tool.input_schema["additionalProperties"] is False
            assert tool.output_schema is not None
        # The SDK checks the answer against the schema.
        health = await client.call_tool("health_check", {})
        assert health.structured_content["status"] == "ok"


async def test_events_are_written_once_and_found_in_the_history(
    client: Brain, project: str
) -> None:
    events = [*story("t1", project=project), *story("t2", project=project)]
    assert (await client.store_task_events(events)).written == 10
    again = await client.store_task_events(events)
    assert (again.written, again.repeated) == (0, 10)
    tasks = await client.get_task_history(project)
    assert {task.task_id for task in tasks} == {"t1", "t2"}
    task = tasks[0]
    assert (task.project, task.status, task.task_type) == (project, "completed", "generate_image")
    assert task.artifacts == (f"file:///projects/default/{task.task_id}.png",)
    assert task.quality is not None
    assert task.quality.score == 0.75
    assert task.submit_time is not None
    assert task.end_time is not None
    assert task.end_time - task.submit_time == timedelta(microseconds=4)
    assert await client.get_task_history(project, task_type="ping") == ()


async def test_events_may_be_written_one_by_one(client: Brain, project: str) -> None:
    submitted, started = story("t", project=project)[:2]
    failure = {"reason": "TIME_LIMIT", "message": "too long", "retryable": False}
    failed = told("t", 3, "failed", project=project, attempt=1, failure=failure)
    assert await client.store_task_context(submitted)
    assert await client.store_task_context(started)
    assert not await client.store_task_context(started)
    assert await client.store_task_result(failed)
    assert not await client.store_task_result(failed)
    (task,) = await client.get_task_history(project)
    assert task.failure is not None
    assert (task.status, task.failure.reason) == ("failed", "TIME_LIMIT")
    with pytest.raises(BrainRefused, match="use store_task_context"):
        await client.store_task_result(submitted)
    with pytest.raises(BrainRefused, match="use store_task_result"):
        await client.store_task_context(failed)


async def test_a_task_is_found_by_other_words_among_many(client: Brain, project: str) -> None:
    # Given many tasks, and one of them
    events = [
        told(f"{n}-{prompt}".replace(" ", "_"), 1, "submitted", text=prompt, project=project)
        for n in range(3)
        for prompt in PROMPTS[1:]
    ]
    await client.store_task_events(events)
    await client.store_task_events(story("sought", text=PROMPTS[0], project=project))

    # When it is looked for in words that it does not have, once all have their vectors
    async def all_found() -> bool:
        return len(await client.search_similar_tasks(project, "x", limit=50)) == len(events) + 1

    await eventually(all_found)
    found = await client.search_similar_tasks(project, "beacon above the sea at nightfall", limit=3)
    # Then it is the first
    assert found[0].task_id == "sought"
    scores = [task.score or 0 for task in found]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


async def test_a_search_may_be_for_one_type_or_one_status(client: Brain, project: str) -> None:
    await client.store_task_events(
        [
            *story("done", project=project),
            told("waits", 1, "submitted", project=project),
            told("video", 1, "submitted", project=project, task_type="generate_video"),
        ]
    )

    async def ids(*, task_type: str = "", status: str = "") -> set[str]:
        found = await client.search_similar_tasks(
            project, "a wet kitten", task_type=task_type, status=status
        )
        return {task.task_id for task in found}

    async def all_found() -> bool:
        return await ids() == {"done", "waits", "video"}

    await eventually(all_found)
    assert await ids(task_type="generate_image") == {"done", "waits"}
    assert await ids(status="completed") == {"done"}
    assert await ids(status="failed") == set()


async def test_a_text_that_changed_is_found_by_its_new_meaning(client: Brain, project: str) -> None:
    first = told("t", 1, "submitted", text=PROMPTS[6], project=project)
    await client.store_task_events([first])

    async def is_near() -> bool:
        found = await client.search_similar_tasks(project, "icebergs")
        return bool(found) and (found[0].score or 0) > 0.2

    assert not await is_near()
    await client.store_task_events([{**first, "sequence": 2, "text": PROMPTS[5]}])
    await eventually(is_near)


async def test_two_projects_never_see_each_other(client: Brain, project: str) -> None:
    # Given the same tasks, knowledge and cache in another project
    other = f"{project}-other"
    await client.store_task_events(story("t", project=other, text="the other's secret"))
    await client.store_knowledge(other, source="bible", text="the other's secret")
    await client.cache_task_result(
        other, key="k", task_id="t", result={"n": 1}, ttl=timedelta(minutes=1)
    )
    # Then none of it comes back to this one
    assert await client.get_task_history(project) == ()
    assert await client.search_similar_tasks(project, "secret") == ()
    assert await client.query_knowledge(project, "secret") == ()
    assert not (await client.get_cached_result(project, key="k")).found
    # And a task of the same id is another one
    await client.store_task_events(story("t", project=project, text="ours"))
    assert [task.text for task in await client.get_task_history(project)] == ["ours"]
    assert [task.text for task in await client.get_task_history(other)] == ["the other's secret"]


async def test_a_result_is_cached_for_its_time(client: Brain, project: str) -> None:
    result = {"images": [{"uri": "file:///a.png"}], "seed": 7}
    kept = await client.cache_task_result(
        project, key="digest", task_id="t", result=result, ttl=timedelta(hours=1)
    )
    found = await client.get_cached_result(project, key="digest")
    assert (found.found, found.task_id, found.result) == (True, "t", result)
    assert found.expire_time == kept.expire_time
    assert not (await client.get_cached_result(project, key="other")).found


async def test_what_a_project_knows_is_found_by_meaning(client: Brain, project: str) -> None:
    known = {
        "characters#mara": "Mara, the detective, is stubborn, left-handed and afraid of water",
        "places#harbour": "The harbour is always foggy and smells of tar",
        "style": "Colours are muted; the camera never moves faster than a person walks",
    }
    for source, text in known.items():
        assert await client.store_knowledge(project, source=source, text=text)
    assert not await client.store_knowledge(project, source="style", text=known["style"])
    found = await client.query_knowledge(project, "personality of the investigator", limit=2)
    assert found[0].source == "characters#mara"
    assert len(found) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sequence": 0}, "events.0.sequence: Input should be greater than or equal to 1"),
        ({"sequence": "1"}, "events.0.sequence: Input should be a valid integer"),
        ({"project": "a/b"}, "events.0.project: String should match pattern"),
        ({"event": "happened"}, "events.0.event: Input should be 'submitted'"),
        ({"time": "yesterday"}, "events.0.time: must be a time as in RFC 3339"),
        ({"time": 1}, "events.0.time: must be a time as in RFC 3339"),
        ({"colour": "red"}, "events.0.colour: Extra inputs are not permitted"),
        ({"text": "x" * 70_000}, "events.0.text: String should have at most 65536 characters"),
        ({"spec": {"a": "x" * 2**20}}, "events.0.spec: must have at most 1048576 bytes as JSON"),
        ({"spec": []}, "events.0.spec: Input should be a valid dictionary"),
        ({"artifacts": [{"uri": "u"}] * 1001}, "events.0.artifacts: List should have at most 1000"),
    ],
)
async def test_an_event_that_is_none_is_refused_with_the_reason(
    client: Brain, project: str, change: dict[str, Any], complaint: str
) -> None:
    event: Any = {**told("t", 1, "submitted", project=project), **change}
    with pytest.raises(BrainRefused) as refused:
        await client.store_task_events([event, told("u", 1, "submitted", project=project)])
    assert refused.value.message.startswith(complaint)
    assert refused.value.reason == "INVALID_INPUT"
    # And nothing of the batch was written.
    assert await client.get_task_history(project) == ()


@pytest.mark.parametrize(
    ("tool", "arguments", "complaint"),
    [
        (Tool.STORE_TASK_EVENTS, {"events": []}, "events: List should have at least 1"),
        (Tool.STORE_TASK_EVENTS, {}, "events: Field required"),
        (Tool.GET_TASK_HISTORY, {"project": "p", "limit": 101}, "limit: Input should be less"),
        (Tool.SEARCH_SIMILAR_TASKS, {"project": "p", "text": ""}, "text: String should have"),
        (Tool.QUERY_KNOWLEDGE, {"text": "x"}, "project: Field required"),
        (Tool.HEALTH_CHECK, {"deep": True}, "deep: Extra inputs are not permitted"),
        (
            Tool.CACHE_TASK_RESULT,
            {"project": "p", "key": "k", "task_id": "t", "result": {}, "ttl_seconds": 0},
            "ttl_seconds: Input should be greater than 0",
        ),
    ],
)
async def test_a_call_that_makes_no_sense_is_refused_with_the_reason(
    client: Brain, tool: Tool, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(BrainRefused) as refused:
        await client.connection.call(tool, arguments)
    assert refused.value.message.startswith(complaint)


async def test_more_than_five_hundred_events_at_a_time_are_refused(
    client: Brain, project: str
) -> None:
    events = [told(f"t{n}", 1, "submitted", project=project) for n in range(501)]
    with pytest.raises(BrainRefused, match="at most 500 items"):
        await client.connection.call(Tool.STORE_TASK_EVENTS, {"events": events})


async def test_an_unknown_tool_is_refused(server: EmbeddedBrain) -> None:
    transport = WebSocketTransport(Dialling(url=server.url, token=TOKEN), tls=None)
    async with Client(transport, mode="legacy") as client:
        answer = await client.call_tool("drop_everything", {})
        assert answer.is_error
        assert answer.structured_content == {
            "reason": "UNKNOWN_TOOL",
            "message": "there is no tool drop_everything",
        }


async def test_many_calls_at_a_time_are_all_answered(client: Brain, project: str) -> None:
    events = [story(f"t{n}", project=project) for n in range(60)]
    stored = await asyncio.gather(*(client.store_task_events(each) for each in events))
    assert [answer.written for answer in stored] == [5] * 60
    assert len(await client.get_task_history(project, limit=100)) == 60
