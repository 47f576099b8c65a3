"""Events in the graph: each once, related to what they tell of, and forgotten when they are old."""

import json
from pathlib import Path
from typing import Any

import pytest

from callsheet.embedded.brain import knowing, recalling, remembering, result_cache
from callsheet.embedded.brain.errors import BrainRefused, GraphUnavailable, Reason
from callsheet.embedded.brain.graph import Graph, Rows
from callsheet.embedded.brain.messages import (
    CacheTaskResult,
    EventsStored,
    GetCachedResult,
    GetTaskHistory,
    StoreKnowledge,
    TaskEventWrite,
)
from callsheet.embedded.brain.pruning import TaskPruner
from callsheet.embedded.brain.schema import DIMENSIONS
from tests.support.embedded_brains import heard, story, told

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
VECTOR = [1.0] * DIMENSIONS


async def stored(graph: Graph, *events: Any) -> EventsStored:  # noqa: ANN401  # as they are sent
    checked = [TaskEventWrite.model_validate(event) for event in events]
    return await graph.write(lambda rows: remembering.store_events(rows, checked))


async def asked(graph: Graph, query: str) -> list[list[Any]]:
    return await graph.read(lambda rows: rows(query))


async def counts(graph: Graph) -> dict[str, int]:
    tables = ("Project", "Task", "Event", "Attempt", "Artifact", "Model")
    return {t: (await asked(graph, f"MATCH (n:{t}) RETURN count(*)"))[0][0] for t in tables}


async def test_a_task_is_related_to_all_it_had_to_do_with(graph: Graph) -> None:
    assert (await stored(graph, *story("t", retry_of="earlier"))).written == 5
    related = """
    MATCH (p:Project)-[:HAS]->(t:Task)-[:PRODUCED]->(a:Artifact), (t)-[:USED]->(m:Model),
      (t)-[:DERIVED_FROM]->(e:Task), (p)-[:HAS]->(e)
    RETURN p.name, t.task_id, t.status, a.uri, a.size_bytes, m.name, m.revision, e.task_id
    """
    uri = "file:///projects/default/t.png"
    assert await asked(graph, related) == [
        ["default", "t", "completed", uri, 1000, "sdxl", "4621", "earlier"]
    ]
    attempts = """
    MATCH (t:Task {task_id: 't'})-[:ATTEMPTED]->(a:Attempt)
    RETURN a.number, a.status, a.device, a.failure <> '', a.end_time - a.start_time
    ORDER BY a.number
    """
    assert await asked(graph, attempts) == [
        [1, "failed", "cuda:0", True, 1],
        [2, "completed", "cuda:0", False, 1],
    ]


async def test_a_task_that_uses_an_output_again_came_from_the_one_that_made_it(
    graph: Graph,
) -> None:
    """And from the one that it tries again; it has produced nothing itself."""
    await stored(graph, *story("made"))
    await stored(
        graph,
        told("again", 1, "submitted", retry_of="tried", derived_from="tried"),
        told("again", 2, "succeeded", derived_from="made", output={"images": []}),
    )
    origins = "MATCH (:Task {task_id: 'again'})-[:DERIVED_FROM]->(o:Task) RETURN o.task_id"
    assert sorted(await asked(graph, origins)) == [["made"], ["tried"]]
    assert (await counts(graph))["Artifact"] == 1
    makers = "MATCH (t:Task)-[:PRODUCED]->(:Artifact) RETURN t.task_id"
    assert await asked(graph, makers) == [["made"]]


async def test_what_an_attempt_was_told_of_is_remembered(graph: Graph) -> None:
    near = {"knowledge": [], "similar_tasks": [{"task_id": "other", "score": 0.5}]}
    await stored(graph, told("t", 1, "context_retrieved", attempt=1, context=near))
    memory = (await asked(graph, "MATCH (t:Task) RETURN t.memory"))[0][0]
    assert json.loads(memory)["fields"]["context"][2] == near


async def test_every_event_is_written_once(graph: Graph) -> None:
    # Given a task, written event by event
    for event in story("t"):
        assert await stored(graph, event) == EventsStored(written=1, repeated=0)
    before = await counts(graph)
    # When all of it comes again, alone and twice in a batch
    assert await stored(graph, *story("t")) == EventsStored(written=0, repeated=5)
    again = await stored(graph, *story("t"), *story("u"), *story("u"))
    # Then only what is new is written
    assert again == EventsStored(written=5, repeated=10)
    both = await counts(graph)
    assert both == {**{k: 2 * n for k, n in before.items()}, "Project": 1, "Model": 1}


async def test_a_batch_in_any_order_is_the_same_task(graph: Graph) -> None:
    await stored(graph, *reversed(story("a")))
    for event in reversed(story("b")):
        await stored(graph, event)
    rows = await asked(
        graph, "MATCH (t:Task) RETURN t.status, t.text, t.spec <> '', t.output <> ''"
    )
    assert rows == [["completed", "a cat in the rain", True, True]] * 2


async def test_a_replay_of_an_older_event_moves_nothing_back(graph: Graph) -> None:
    # Given a task whose first events were never told
    await stored(graph, *story("t")[3:])
    # When they come at last
    await stored(graph, *story("t")[:3])
    # Then it is still completed, and what only they tell is known
    status = await asked(graph, "MATCH (t:Task) RETURN t.status, t.text")
    assert status == [["completed", "a cat in the rain"]]


async def test_a_task_that_another_came_from_may_be_told_of_later(graph: Graph) -> None:
    await stored(graph, *story("t", retry_of="earlier"))
    known = GetTaskHistory(project="default")
    only = await graph.read(lambda rows: recalling.history(rows, known))
    assert [task.task_id for task in only.tasks] == ["t"]
    await stored(graph, *story("earlier", text="a dog in the snow"))
    both = await graph.read(lambda rows: recalling.history(rows, known))
    assert {task.text for task in both.tasks} == {"a cat in the rain", "a dog in the snow"}


async def test_two_projects_share_nothing_though_their_ids_are_equal(graph: Graph) -> None:
    await stored(graph, *story("t", project="one"), *story("t", project="two", text="a dog"))
    assert await counts(graph) == {
        "Project": 2,
        "Task": 2,
        "Event": 10,
        "Attempt": 4,
        "Artifact": 2,
        "Model": 2,
    }
    reached = """
    MATCH (p:Project)-[*1..4]-(q:Project) WHERE p.name <> q.name RETURN count(*)
    """
    assert await asked(graph, reached) == [[0]]
    for project, text in (("one", "a cat in the rain"), ("two", "a dog")):
        known = GetTaskHistory(project=project)
        found = await graph.read(lambda rows, k=known: recalling.history(rows, k))
        assert [task.text for task in found.tasks] == [text]


async def test_more_epochs_than_a_ledger_has_are_refused_and_nothing_is_written(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "MOST_EPOCHS", 2)
    with pytest.raises(BrainRefused) as refused:
        await stored(graph, *(told(f"t{n}", 1, "submitted", epoch=f"e{n}") for n in range(3)))
    assert refused.value.reason is Reason.LIMIT_REACHED
    assert (await counts(graph))["Event"] == 0


async def test_more_projects_than_there_is_room_for_are_refused(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "MOST_PROJECTS", 2)
    with pytest.raises(BrainRefused, match="0 projects"):
        await stored(graph, *(told("t", 1, "submitted", project=f"p{n}") for n in range(3)))


async def test_projects_of_which_nothing_is_left_make_room_for_others(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "MOST_PROJECTS", 3)
    # Given three projects, of which two have no tasks any more, and one of these knows something
    for number in range(3):
        day = {"time": f"2027-03-0{number + 1}T12:00:00Z"}
        await stored(graph, told("t", 1, "submitted", project=f"p{number}", **day))
    await _know(graph, StoreKnowledge(project="p0", source="bible", text="x"))
    await TaskPruner(graph, kept=1).prune()
    names = "MATCH (p:Project) RETURN p.name ORDER BY p.name"
    assert await asked(graph, names) == [["p0"], ["p2"]]
    # When there is room for one more, and then for none
    await stored(graph, told("t", 1, "submitted", project="p3"))
    with pytest.raises(BrainRefused) as refused:
        await stored(graph, told("t", 1, "submitted", project="p4"))
    assert refused.value.reason is Reason.LIMIT_REACHED
    # Then an empty one gives its place to a new one at once
    await graph.write(lambda rows: rows("MATCH (t:Task {key: 'p2/t'}) DETACH DELETE t"))
    await stored(graph, told("t", 1, "submitted", project="p4"))
    assert await asked(graph, names) == [["p0"], ["p3"], ["p4"]]


async def test_the_oldest_tasks_go_with_all_that_was_theirs(graph: Graph) -> None:
    # Given four tasks, of which the first three are older
    for number in range(4):
        day = {"time": f"2027-03-0{number + 1}T12:00:00Z"}
        await stored(graph, *({**event, **day} for event in story(f"t{number}")))
    # When two are kept
    pruner = TaskPruner(graph, kept=1)
    assert await pruner.prune() == 3
    # Then nothing of the others is left, and the model that is still used stays
    assert await counts(graph) == {
        "Project": 1,
        "Task": 1,
        "Event": 5,
        "Attempt": 2,
        "Artifact": 1,
        "Model": 1,
    }
    assert await asked(graph, "MATCH (t:Task) RETURN t.task_id") == [["t3"]]
    assert await pruner.prune() == 0


async def test_an_artifact_that_two_tasks_made_stays_with_the_one_that_is_kept(
    graph: Graph,
) -> None:
    made = [{"uri": "file:///same.png"}]
    for number in range(2):
        time = f"2027-03-0{number + 1}T12:00:00Z"
        await stored(graph, told(f"t{number}", 1, "succeeded", artifacts=made, time=time))
    await TaskPruner(graph, kept=1).prune()
    assert (await counts(graph))["Artifact"] == 1


async def test_a_cached_result_is_found_until_its_time_is_over(graph: Graph) -> None:
    await _cache(graph, "k", {"n": 1})
    await _cache(graph, "k", {"n": 2})
    found = await _cached(graph, "k", now=NOW + 9 * SECOND)
    assert (found.found, found.task_id, found.result) == (True, "t", {"n": 2})
    assert found.expire_time == "2027-01-15T08:00:10.000000Z"
    assert not (await _cached(graph, "k", now=NOW + 10 * SECOND)).found
    assert not (await _cached(graph, "k", project="other")).found


async def test_a_full_cache_gives_up_what_has_expired_and_then_what_expires_soonest(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_cache, "MOST_RESULTS", 2)
    monkeypatch.setattr(result_cache, "_STEP", 1)
    await _cache(graph, "long", {"n": 1}, ttl_seconds=100.0)
    await _cache(graph, "short", {"n": 2}, ttl_seconds=1.0)
    await _cache(graph, "new", {"n": 3}, ttl_seconds=50.0, now=NOW + 2 * SECOND)
    await _cache(graph, "newer", {"n": 4}, ttl_seconds=70.0, now=NOW + 2 * SECOND)
    left = [
        key for (key,) in await asked(graph, "MATCH (c:CachedResult) RETURN c.key ORDER BY c.key")
    ]
    assert left == ["default/long", "default/newer"]


async def test_the_bytes_of_the_cache_have_a_bound(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_cache, "MOST_BYTES", 40)
    monkeypatch.setattr(result_cache, "_STEP", 1)
    for number in range(4):
        await _cache(graph, f"k{number}", {"text": "x" * 5})
    assert await asked(graph, "MATCH (c:CachedResult) RETURN sum(c.size) <= 40") == [[True]]
    with pytest.raises(BrainRefused, match="the result has 111 bytes"):
        await _cache(graph, "k", {"text": "x" * 99})


async def test_a_source_has_one_passage(graph: Graph) -> None:
    passage = StoreKnowledge(project="default", source="bible", text="she is left-handed")
    other = StoreKnowledge(project="default", source="bible", text="she is right-handed")
    assert (await _know(graph, passage)).stored
    assert not (await _know(graph, passage)).stored
    assert (await _know(graph, other)).stored
    found = await graph.read(
        lambda rows: recalling.knowledge(rows, project="default", vector=VECTOR, limit=5)
    )
    assert [item.text for item in found.items] == ["she is right-handed"]


async def test_a_project_knows_no_more_than_there_is_room_for(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowing, "MOST_PASSAGES_OF_PROJECT", 1)
    await _know(graph, StoreKnowledge(project="one", source="a", text="x"))
    await _know(graph, StoreKnowledge(project="two", source="a", text="x"))
    with pytest.raises(BrainRefused, match="1 passages of the project and 2 of all"):
        await _know(graph, StoreKnowledge(project="one", source="b", text="x"))


async def test_a_write_that_fails_in_the_middle_leaves_nothing_behind(graph: Graph) -> None:
    def fail(rows: Rows) -> None:
        remembering.store_events(rows, [heard("t", 1, "submitted")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await graph.write(fail)
    assert set((await counts(graph)).values()) == {0}
    assert (await stored(graph, *story("t"))).written == 5


async def test_a_graph_of_another_version_is_refused(tmp_path: Path) -> None:
    async with Graph(tmp_path) as graph:
        await graph.write(lambda rows: rows("MATCH (s:Schema) SET s.version = 99"))
    again = Graph(tmp_path)
    with pytest.raises(GraphUnavailable, match="is of version 99, this brain of 1"):
        await again.open()
    await again.close()


async def _cache(
    graph: Graph, key: str, result: dict[str, Any], *, ttl_seconds: float = 10.0, now: int = NOW
) -> None:
    asked = CacheTaskResult(
        project="default", key=key, task_id="t", result=result, ttl_seconds=ttl_seconds
    )
    await graph.write(lambda rows: result_cache.put(rows, asked, now=now))


async def _cached(graph: Graph, key: str, *, project: str = "default", now: int = NOW) -> Any:  # noqa: ANN401  # the answer of get
    asked = GetCachedResult(project=project, key=key)
    return await graph.read(lambda rows: result_cache.get(rows, asked, now=now))


async def _know(graph: Graph, passage: StoreKnowledge) -> Any:  # noqa: ANN401  # the answer of store_knowledge
    return await graph.write(lambda rows: knowing.store_knowledge(rows, passage, VECTOR))
