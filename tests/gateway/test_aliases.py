"""The routes of the older services: their paths, their shapes and their words, to the letter."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from callsheet.gateway.aliases_background import WORK
from callsheet.gateway.task_words import BACKGROUND, PLATFORM, VIDEO
from callsheet.ledger.model import Progress
from callsheet.v1 import task_pb2
from tests.gateway.test_uploads import MP4, kept
from tests.support.gateways import RunningGateway, gateway_before
from tests.support.pictures import PNG
from tests.support.work import started, succeeded

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def test_a_task_of_the_video_service_is_processing_and_then_completed(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.submit("ping", echo="x")
    assert (await gateway.http.get(f"/task/{task_id}")).json() == {
        "task_id": task_id,
        "status": "processing",
        "result": None,
        "error": None,
        "progress": None,
    }
    await succeeded(gateway.plane.cell, task_id)
    told = (await gateway.http.get(f"/task/{task_id}")).json()
    assert told["status"] == "completed"
    assert told["result"]["metadata"]["output_data"] == {"echo": "done"}


async def test_a_task_of_the_video_service_is_cancelled_by_deleting_it(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.submit()
    answer = await gateway.http.delete(f"/task/{task_id}")
    assert (answer.json()["task_id"], answer.json()["status"]) == (task_id, "cancelled")
    answer = await gateway.http.delete(f"/task/{task_id}")
    assert (answer.status_code, answer.json()["reason"]) == (409, "ILLEGAL_TRANSITION")


@pytest.mark.parametrize(
    ("path", "words"), [("/tasks/active", VIDEO), ("/api/background/tasks/active", BACKGROUND)]
)
async def test_active_tasks_are_those_that_wait_and_those_that_run(
    gateway: RunningGateway, path: str, words: dict[int, str]
) -> None:
    waiting, running, ended = [await gateway.submit() for _ in range(3)]
    await started(gateway.plane.cell, running)
    await succeeded(gateway.plane.cell, ended)
    told = (await gateway.http.get(path)).json()
    assert told["count"] == 2
    assert not told["has_more"]
    assert [(each["task_id"], each["status"]) for each in told["tasks"]] == [
        (running, words[task_pb2.TASK_STATE_RUNNING]),
        (waiting, words[task_pb2.TASK_STATE_PENDING]),
    ]
    few = (await gateway.http.get(path, params={"limit": 1})).json()
    assert [few["count"], few["has_more"]] == [1, True]


async def test_a_background_task_tells_how_far_it_is(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    path = f"/api/background/status/{task_id}"
    assert (await gateway.http.get(path)).json()["status"] == "pending"
    attempts, task = await started(gateway.plane.cell, task_id)
    progress = Progress(4, 5, "Generating summary", task.start_time or NOON)
    await attempts.keep_progress(task, attempt=task.attempt, progress=progress)
    told = (await gateway.http.get(path)).json()
    assert told["status"] == "started"
    assert told["progress"].pop("updated_at").endswith("Z")
    assert told["progress"] == {
        "current": 4,
        "total": 5,
        "percentage": 80.0,
        "message": "Generating summary",
    }
    assert (await gateway.http.delete(f"/api/background/tasks/{task_id}")).status_code == 200


async def test_background_work_without_a_task_type_is_refused_honestly(
    gateway: RunningGateway,
) -> None:
    before = await gateway.plane.written()
    for path in WORK.keys() - {"media/process-video"}:
        answer = await gateway.http.post(f"/api/background/{path}", json={"anything": 1})
        assert (answer.status_code, answer.json()["reason"]) == (501, "TASK_TYPE_UNAVAILABLE")
    assert await gateway.plane.written() == before


async def test_background_work_is_accepted_in_the_documented_shape(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a task type in place of one that this build has not."""
    monkeypatch.setattr("callsheet.gateway.task_words.NAMES", {"analyze_content": "ping"})
    answer = await gateway.http.post("/api/background/ai/analyze-content", json={"echo": "x"})
    task_id = answer.json()["task_id"]
    assert (answer.status_code, answer.json()) == (
        202,
        {
            "task_id": task_id,
            "status": "started",
            "message": "Processing started in background",
            "monitor_url": f"/api/background/status/{task_id}",
        },
    )
    answer = await gateway.http.post("/api/background/ai/analyze-content", json={"ecko": "x"})
    assert [each["field"] for each in answer.json()["violations"]] == ["ecko"]
    answer = await gateway.http.post("/api/background/ai/analyze-content", json={"echo": "x" * 257})
    assert [each["field"] for each in answer.json()["violations"]] == ["echo"]


async def test_an_uploaded_video_is_processed_in_the_background(gateway: RunningGateway) -> None:
    upload = (await gateway.http.post("/api/v1/uploads", content=MP4)).json()
    wanted = {"video": {"uri": upload["uri"]}, "frames": 4}
    answer = await gateway.http.post("/api/background/media/process-video", json=wanted)
    assert answer.status_code == 202, answer.text
    task = (await gateway.http.get(f"/api/v1/tasks/{answer.json()['task_id']}")).json()
    assert (task["task_type"], task["task_data"]) == ("process_video", wanted)


async def test_a_video_is_kept_and_processed_in_the_documented_shape(
    gateway: RunningGateway,
) -> None:
    files = {"file": ("clip.mp4", MP4, "video/mp4")}
    answer = await gateway.http.post("/upload-video", files=files)
    task_id = answer.json()["task_id"]
    assert (answer.status_code, answer.json()) == (
        202,
        {"task_id": task_id, "status": "processing"},
    )
    # Then the task is about the upload that the video is now
    task = (await gateway.http.get(f"/api/v1/tasks/{task_id}")).json()
    assert (task["task_type"], task["project_id"]) == ("process_video", "default")
    upload = (await gateway.http.post("/api/v1/uploads", files=files)).json()
    assert task["task_data"] == {"video": {"uri": upload["uri"]}}
    assert (await gateway.http.get(upload["url"])).content == MP4
    # And it is asked for, and stopped, at the same service
    assert (await gateway.http.get(f"/task/{task_id}")).json()["status"] == "processing"
    assert (await gateway.http.delete(f"/task/{task_id}")).json()["status"] == "cancelled"


async def test_a_video_that_is_brought_again_with_its_key_is_the_same_task(
    gateway: RunningGateway,
) -> None:
    headers = {"idempotency-key": "clip-1", "content-type": "video/mp4"}
    first, again = [
        await gateway.http.post("/upload-video", content=MP4, headers=headers) for _ in range(2)
    ]
    assert first.json() == again.json()
    other = await gateway.http.post("/upload-video", content=MP4 + b"x", headers=headers)
    assert (other.status_code, other.json()["reason"]) == (409, "REQUEST_ID_REUSED")


#: What is refused of a video: the file, what it is said to be, status and reason.
NO_VIDEOS = [
    (b"", "video/mp4", 400, "UPLOAD_EMPTY"),
    (PNG, "image/png", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (PNG, "video/mp4", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (b"\x00\x00\x00\x18ftypavif" + bytes(600), "", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (b"words", "text/plain", 415, "MEDIA_TYPE_UNSUPPORTED"),
]


async def test_what_is_no_video_is_refused_and_nothing_is_left_of_it(
    gateway: RunningGateway,
) -> None:
    before = await gateway.plane.written()
    for content, declared, status, reason in NO_VIDEOS:
        headers = {"content-type": declared} if declared else {}
        answer = await gateway.http.post("/upload-video", content=content, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason), declared
    answer = await gateway.http.post("/upload-video", files={"video": ("v.mp4", MP4)})
    assert [each["field"] for each in answer.json()["violations"]] == ["video"]
    assert kept(gateway) == []
    assert await gateway.plane.written() == before


async def test_only_who_may_submit_to_a_project_brings_it_a_video(
    gateway: RunningGateway,
) -> None:
    headers = {"content-type": "video/mp4"}
    async with gateway.client(await gateway.new_key(roles=frozenset({"read"}))) as reader:
        answer = await reader.post("/upload-video", content=MP4, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (403, "ROLE_MISSING")
    params = {"project_id": "elsewhere"}
    answer = await gateway.http.post("/upload-video", content=MP4, headers=headers, params=params)
    assert (answer.status_code, answer.json()["reason"]) == (404, "PROJECT_NOT_FOUND")
    assert kept(gateway) == []


async def test_a_video_whose_task_is_refused_stays_an_upload(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to bring it twice; with a task type that takes no such input."""
    monkeypatch.setattr("callsheet.gateway.task_words.NAMES", {"video.process": "ping"})
    before = await gateway.plane.written()
    headers = {"content-type": "video/mp4"}
    answer = await gateway.http.post("/upload-video", content=MP4, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (400, "FIELD_INVALID")
    assert len(kept(gateway)) == 1
    assert await gateway.plane.written() == before


async def test_redis_is_shown_by_role_and_the_cache_can_be_cleared(
    gateway: RunningGateway,
) -> None:
    await gateway.gateway.health.watch.look_once()
    told = (await gateway.http.get("/redis/status")).json()
    assert told["status"] == "connected"
    assert {name: role["status"] for name, role in told["roles"].items()} == {
        "queue_and_state": "connected",
        "sessions": "connected",
        "cache": "connected",
    }
    for role in told["roles"].values():
        assert role["used_memory_bytes"] > 0
    cell = gateway.settings.cell
    cache = gateway.gateway.beside.cache
    await cache.command("SET", f"callsheet:{{{cell}}}:cache:answer:1", "x")
    await cache.command("SET", f"callsheet:{{{cell}}}:task:1", "not cached")
    answer = await gateway.http.post("/redis/cache/clear")
    assert answer.json() == {"status": "cleared", "cleared_keys": 1}
    assert await cache.command("GET", f"callsheet:{{{cell}}}:task:1") == b"not cached"


async def test_a_gateway_that_is_told_no_ledger_says_of_it_what_control_does(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    cell = gateway.settings.cell
    beside = gateway.settings.sessions_redis(gateway.settings.redis_url)
    async with gateway_before(
        gateway.plane,
        "",
        cell,
        tmp_path / "apart",
        redis_url=None,
        sessions_redis_url=beside,
        cache_redis_url=beside,
    ) as apart:
        watch = apart.gateway.health.watch

        async def ledger() -> tuple[str, str | None]:
            await watch.look_once()
            found = (await apart.http.get("/redis/status")).json()["roles"]["queue_and_state"]
            assert found["checked"] >= found["since"]
            return found["status"], found["reason"]

        assert await ledger() == ("connected", None)
        gateway.plane.control.health.shut_down()  # as when its ledger does not answer
        assert await ledger() == ("away", "its ledger does not answer")
        assert (await apart.http.get("/redis/status")).json()["status"] == "degraded"


async def test_only_operators_see_redis(gateway: RunningGateway) -> None:
    async with gateway.client(await gateway.new_key(roles=frozenset({"read"}))) as reader:
        for answer in (await reader.get("/redis/status"), await reader.post("/redis/cache/clear")):
            assert (answer.status_code, answer.json()["reason"]) == (403, "ROLE_MISSING")


async def test_performance_is_told_by_queue_and_by_task_type(gateway: RunningGateway) -> None:
    answer = await gateway.http.get("/api/background/performance/overview")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"task_types", "queues", "start_time", "end_time"}


@pytest.mark.parametrize("words", [PLATFORM, VIDEO, BACKGROUND], ids=["v1", "video", "background"])
def test_every_state_has_a_word_in_every_api(words: dict[int, str]) -> None:
    states = set(task_pb2.TaskState.values()) - {task_pb2.TASK_STATE_UNSPECIFIED}
    assert set(words) == states
