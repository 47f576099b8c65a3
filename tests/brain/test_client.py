"""The client against a real MCP server in a process of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from callsheet.brain.brain import Brain
from callsheet.brain.errors import (
    AnswerMalformed,
    BrainError,
    BrainRefused,
    BrainUnavailable,
    MessageTooLarge,
    ToolNotOffered,
)
from callsheet.brain.records import TaskEventWrite
from callsheet.brain.streams import MESSAGE_BYTES
from callsheet.brain.tools import Tool
from tests.support.brains import SmallBrainProcess, client_of, connected, fact


async def test_every_tool_is_a_typed_method(brain: Brain) -> None:
    told = [fact("t1", 1), fact("t1", 2, "started", status="processing"), fact("t2", 1)]
    assert (await brain.store_task_events(told)).written == 3
    again = await brain.store_task_events([*told, fact("t3", 1, project="other")])
    assert (again.written, again.repeated) == (1, 3)
    assert await brain.store_task_result(fact("t1", 3, "succeeded", status="completed"))
    assert not await brain.store_task_context(told[1])
    history = await brain.get_task_history("default", task_type="generate_image", limit=10)
    assert [task.task_id for task in history] == ["t1", "t2"]
    assert history[0].submit_time == datetime(2027, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    similar = await brain.search_similar_tasks("default", "a wet cat", limit=1)
    assert [(task.task_id, task.score) for task in similar] == [("t1", 0.5)]
    ttl = timedelta(hours=1)
    await brain.cache_task_result("default", key="k", task_id="t1", result={"seed": 1}, ttl=ttl)
    found = await brain.get_cached_result("default", key="k")
    assert (found.found, found.task_id, found.result) == (True, "t1", {"seed": 1})
    assert not (await brain.get_cached_result("other", key="k")).found
    assert await brain.store_knowledge("default", source="bible", text="the cat is called Mio")
    (item,) = await brain.query_knowledge("default", "what is the cat's name?")
    assert (item.source, item.text) == ("bible", "the cat is called Mio")
    health = await brain.health_check()
    assert (health.status, health.events) == ("ok", 5)


async def test_tools_are_called_by_the_brains_own_names(small_brain: SmallBrainProcess) -> None:
    small_brain.feels(tools=["add_facts"], names={"add_facts": "store_task_events"})
    async with client_of(small_brain.url, renamed=("store_task_events=add_facts",)) as brain:
        await connected(brain)
        assert (await brain.store_task_events([fact("t1", 1)])).written == 1
    assert small_brain.calls() == [["add_facts", 1]]


async def test_a_tool_that_the_settings_deny_is_not_called(small_brain: SmallBrainProcess) -> None:
    async with client_of(small_brain.url, renamed=("get_cached_result=",)) as brain:
        await connected(brain)
        assert brain.offers(Tool.CACHE_TASK_RESULT)
        with pytest.raises(ToolNotOffered):
            await brain.get_cached_result("default", key="k")
    assert small_brain.calls() == []


async def test_a_brain_without_the_batch_gets_facts_one_by_one_and_in_order(
    small_brain: SmallBrainProcess,
) -> None:
    small_brain.feels(tools=["store_task_result", "store_task_context"])
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        facts = [fact(f"t{task}", number) for number in range(1, 4) for task in range(20)]
        final = [fact(f"t{task}", 4, "succeeded", status="completed") for task in range(20)]
        answer = await brain.store_task_events([*facts, *final])
        assert (answer.written, answer.repeated) == (80, 0)
        assert (await brain.store_task_events(facts)).repeated == 60
    order: dict[str, list[int]] = {}
    for each in small_brain.facts():
        order.setdefault(each["task_id"], []).append(each["sequence"])
    assert set(map(tuple, order.values())) == {(1, 2, 3, 4)}
    tools = [tool for tool, _ in small_brain.calls()]
    assert tools.count("store_task_result") == 20


async def test_a_brain_that_takes_results_alone_gets_no_others(
    small_brain: SmallBrainProcess,
) -> None:
    small_brain.feels(tools=["store_task_result"])
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        facts = [fact("t1", 1), fact("t1", 2, "failed", status="failed")]
        answer = await brain.store_task_events(facts)
        assert (answer.written, answer.repeated) == (1, 0)
    assert [each["event"] for each in small_brain.facts()] == ["failed"]


async def test_a_brain_that_takes_no_facts_says_so(small_brain: SmallBrainProcess) -> None:
    small_brain.feels(tools=["search_similar_tasks"])
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        with pytest.raises(ToolNotOffered):
            await brain.store_task_events([fact("t1", 1)])
        # It is well all the same: it answers.
        assert (await brain.health_check()).version == "small-brain 1"


async def test_answers_that_come_as_text_are_understood(
    brain: Brain, small_brain: SmallBrainProcess
) -> None:
    small_brain.feels(text=True)
    assert (await brain.store_task_events([fact("t1", 1)])).written == 1


Ask = Callable[[Brain], Awaitable[object]]


async def test_a_malformed_answer_is_an_error_of_its_own(
    brain: Brain, small_brain: SmallBrainProcess
) -> None:
    small_brain.feels(malformed=True)
    asks: list[Ask] = [
        lambda brain: brain.store_task_events([fact("t1", 1)]),
        lambda brain: brain.store_task_result(fact("t1", 2)),
        lambda brain: brain.get_task_history("default"),
        lambda brain: brain.get_cached_result("default", key="k"),
        lambda brain: brain.query_knowledge("default", "cats"),
        lambda brain: brain.health_check(),
    ]
    for ask in asks:
        with pytest.raises(AnswerMalformed):
            await ask(brain)
    assert brain.connection.is_connected


async def test_a_task_of_another_project_never_comes_back(
    brain: Brain, small_brain: SmallBrainProcess
) -> None:
    await brain.store_task_events([fact("t1", 1, project="other")])
    small_brain.feels(any_project=True)
    with pytest.raises(AnswerMalformed, match="other projects"):
        await brain.search_similar_tasks("default", "a cat")


async def test_a_refusal_is_told_in_the_brains_own_words(
    brain: Brain, small_brain: SmallBrainProcess
) -> None:
    small_brain.feels(fail=True)
    with pytest.raises(BrainRefused, match="the graph is broken"):
        await brain.store_task_events([fact("t1", 1)])
    small_brain.feels(fail=True, reason="BUSY")
    with pytest.raises(BrainRefused) as refused:
        await brain.store_task_events([fact("t1", 1)])
    assert refused.value.is_passing


async def test_what_is_too_much_is_refused_before_it_is_sent(brain: Brain) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        await brain.store_task_events([])
    with pytest.raises(ValueError, match="1 to 500"):
        await brain.store_task_events([fact("t1", n) for n in range(1, 502)])
    with pytest.raises(ValueError, match="1 to 100"):
        await brain.get_task_history("default", limit=101)
    with pytest.raises(MessageTooLarge):
        await brain.store_task_events([fact("t1", 1, text="x" * MESSAGE_BYTES)])
    large: TaskEventWrite = fact("t2", 1, text="y" * (2 * 2**20))
    assert (await brain.store_task_events([large])).written == 1


async def test_a_call_ends_with_its_time(brain: Brain, small_brain: SmallBrainProcess) -> None:
    small_brain.feels(hang=True)
    with pytest.raises(BrainUnavailable, match=r"within 0\.05 s") as error:
        await brain.get_task_history("default", time_limit=timedelta(milliseconds=50))
    assert error.value.was_sent
    small_brain.feels()
    assert (await brain.health_check()).status == "ok"


async def test_a_brain_that_does_not_answer_is_left_alone_for_a_while(
    brain: Brain, small_brain: SmallBrainProcess
) -> None:
    small_brain.feels(hang=True)
    for _ in range(5):
        with pytest.raises(BrainUnavailable, match="did not answer health_check"):
            await brain.health_check(time_limit=timedelta(milliseconds=50))
    asked = len(small_brain.calls())
    with pytest.raises(BrainUnavailable, match="left alone") as error:
        await brain.health_check()
    assert not error.value.was_sent
    assert brain.connection.is_resting
    assert len(small_brain.calls()) == asked


async def test_only_so_many_calls_are_on_their_way(small_brain: SmallBrainProcess) -> None:
    small_brain.feels(hang=True)
    async with client_of(small_brain.url, in_flight=2) as brain:
        await connected(brain)
        limit = timedelta(milliseconds=300)
        calls = [brain.health_check(time_limit=limit) for _ in range(6)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, BrainUnavailable) for answer in answers)
    assert len(small_brain.calls()) <= 4


async def test_a_call_that_nobody_waits_for_any_more_leaves_nothing_behind(
    brain: Brain, small_brain: SmallBrainProcess
) -> None:
    small_brain.feels(hang=True)
    calls = [asyncio.create_task(brain.health_check()) for _ in range(64)]
    while len(small_brain.calls()) < 64:  # noqa: ASYNC110  # the server's file has no event
        await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    small_brain.feels()
    # Every place is free again, and no circuit is open
    answers = await asyncio.gather(*(brain.health_check() for _ in range(64)))
    assert {answer.status for answer in answers} == {"ok"}


async def test_many_calls_at_once_get_their_own_answers(brain: Brain) -> None:
    async def keep_and_find(number: int) -> bool:
        key, result, ttl = f"k{number}", {"number": number}, timedelta(hours=1)
        await brain.cache_task_result("p", key=key, task_id="t", result=result, ttl=ttl)
        return (await brain.get_cached_result("p", key=key)).result == result

    assert all(await asyncio.gather(*map(keep_and_find, range(200))))


async def test_leaving_ends_what_is_on_its_way(small_brain: SmallBrainProcess) -> None:
    small_brain.feels(hang=True)
    async with client_of(small_brain.url) as brain:
        await connected(brain)
        call = asyncio.create_task(brain.health_check())
        while not small_brain.calls():  # noqa: ASYNC110  # the server's file has no event
            await asyncio.sleep(0.01)
    with pytest.raises(BrainError):
        await call
