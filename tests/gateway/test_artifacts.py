"""Artifacts over HTTP: in ranges, by digest, by link, and harmless to the page that shows them."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from callsheet.gateway.links import Links
from callsheet.gateway.problems import Refused
from callsheet.ledger.model import Failure, FailureReason, Progress
from callsheet.runtime.artifacts import artifact_store
from callsheet.tasks.v1.artifact_pb2 import Artifact
from tests.support.gateways import RunningGateway
from tests.support.pictures import PNG, picture
from tests.support.work import started

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def test_a_task_shows_its_artifact_and_the_gateway_serves_it(gateway: RunningGateway) -> None:
    made = await picture(gateway)
    task = (await gateway.http.get(f"/api/v1/tasks/{made.task_id}")).json()
    assert task["result"]["media_url"] == made.stored.uri
    assert [each["url"] for each in task["artifacts"]] == [made.path]
    listed = (await gateway.http.get(f"/api/v1/tasks/{made.task_id}/artifacts")).json()
    assert listed["artifacts"] == task["artifacts"]
    answer = await gateway.http.get(made.path)
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["content-disposition"].startswith("inline")
    again = await gateway.http.get(made.path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await gateway.http.head(made.path)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(PNG)))


async def test_a_running_task_shows_what_it_is_making_until_it_ends(
    gateway: RunningGateway,
) -> None:
    task_id = await gateway.submit("generate_image", prompt="a lighthouse")
    attempts, task = await started(gateway.plane.cell, task_id)
    store = artifact_store(gateway.settings)
    old, new = (
        store.put(
            content,
            project="default",
            task_id=task_id,
            attempt=task.attempt,
            media_type="image/webp",
            suffix="webp",
        )
        for content in (b"old", b"new")
    )
    preview = Artifact(uri=new.uri, key=new.key, media_type="image/webp", size_bytes=new.size)
    progress = Progress(
        2, 8, "step 2 of 8", task.start_time or NOON, preview=preview.SerializeToString()
    )
    await attempts.keep_progress(task, attempt=task.attempt, progress=progress)
    path = f"/api/v1/tasks/{task_id}"
    shown = (await gateway.http.get(path)).json()["preview"]
    assert (await gateway.http.get(shown["url"])).content == b"new"
    # The one before it can still be had by whoever was told of it, and nothing else
    names = [stored.key.rpartition("/")[2] for stored in (old, new)]
    assert (await gateway.http.get(f"{path}/artifacts/{names[0]}")).content == b"old"
    for other in (f"2{names[0][1:]}", names[0].replace("webp", "state"), "1-x.webp"):
        assert (await gateway.http.get(f"{path}/artifacts/{other}")).status_code == 404
    failure = Failure(FailureReason.INVALID_INPUT, "no")
    await attempts.fail(task, attempt=task.attempt, failure=failure)
    assert (await gateway.http.get(path)).json()["preview"] is None
    assert (await gateway.http.get(shown["url"])).status_code == 404


#: Ranges, and the bytes that each asks for.
RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=8-99": (8, 100),
    "bytes=1000-": (1000, len(PNG)),
    "bytes=-5": (len(PNG) - 5, len(PNG)),
    "bytes=10-999999": (10, len(PNG)),
}


async def test_a_range_is_served_as_it_is_asked_for(gateway: RunningGateway) -> None:
    made = await picture(gateway)
    for asked, (start, end) in RANGES.items():
        answer = await gateway.http.get(made.path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (206, PNG[start:end]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(PNG)}"


async def test_what_is_no_single_range_is_answered_with_the_whole_or_refused(
    gateway: RunningGateway,
) -> None:
    made = await picture(gateway)
    for asked in ("bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=x-"):
        answer = await gateway.http.get(made.path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (200, PNG)
    headers = {"range": "bytes=0-1", "if-range": '"another"'}
    assert (await gateway.http.get(made.path, headers=headers)).status_code == 200
    for asked in ("bytes=99999-", "bytes=5-2", "bytes=-0"):
        answer = await gateway.http.get(made.path, headers={"range": asked})
        assert (answer.status_code, answer.json()["reason"]) == (416, "RANGE_UNSATISFIABLE")
        assert answer.headers["content-range"] == f"bytes */{len(PNG)}"


async def test_what_could_run_in_a_page_is_downloaded_only(gateway: RunningGateway) -> None:
    script = b"<script>alert(1)</script>"
    for media_type in ("image/svg+xml", "text/html", "application/pdf"):
        made = await picture(gateway, script, media_type=media_type, suffix="x")
        answer = await gateway.http.get(made.path)
        assert answer.headers["content-disposition"].startswith("attachment"), media_type
        assert "sandbox" in answer.headers["content-security-policy"]


async def test_a_script_is_no_script_for_the_page_that_loads_it(gateway: RunningGateway) -> None:
    for media_type in ("text/javascript", "text/css", "application/json", "image/svg+xml"):
        made = await picture(gateway, b"alert(1)", media_type=media_type, suffix="x")
        answer = await gateway.http.get(made.path)
        assert answer.headers["content-type"] == "application/octet-stream", media_type
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_browser_does_not_keep_an_artifact_for_long(gateway: RunningGateway) -> None:
    answer = await gateway.http.get((await picture(gateway)).path)
    assert answer.headers["cache-control"] == "private, max-age=3600"


async def test_an_image_is_downloaded_when_that_is_asked_for(gateway: RunningGateway) -> None:
    made = await picture(gateway)
    answer = await gateway.http.get(made.path, params={"download": "1"})
    assert answer.headers["content-disposition"].startswith("attachment")


#: Names that are no artifact of a task, and lead elsewhere if anybody believes them.
ELSEWHERE = [
    "x.png",
    "..%2f..%2f..%2fcallsheet-owner.json",
    "%2e%2e%2fsecret",
    "..%5c..%5csecret",
    "%00",
    "a" * 5000,
]


async def test_no_name_leads_out_of_the_task(gateway: RunningGateway) -> None:
    made = await picture(gateway)
    for name in ELSEWHERE:
        answer = await gateway.http.get(f"/api/v1/tasks/{made.task_id}/artifacts/{name}")
        assert answer.status_code == 404, name


async def test_another_project_sees_no_artifact(gateway: RunningGateway) -> None:
    made = await picture(gateway)
    stranger = await gateway.new_key(projects=frozenset({"elsewhere"}))
    async with gateway.client(stranger) as other:
        for answer in (await other.get(made.path), await other.post(f"{made.path}/link")):
            assert (answer.status_code, answer.json()["reason"]) == (404, "TASK_NOT_FOUND")


async def test_a_link_opens_one_artifact_without_a_key(gateway: RunningGateway) -> None:
    made = await picture(gateway)
    link = str((await gateway.http.post(f"{made.path}/link")).json()["url"])
    assert link.startswith(gateway.url)
    async with gateway.client() as anybody:
        answer = await anybody.get(link, headers={"range": "bytes=0-3"})
        assert (answer.status_code, answer.content) == (206, PNG[:4])
        parts = urlsplit(link)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        for changed in (
            {"type": "text/html"},
            {"expires": "99999999999"},
            {"signature": ""},
            {"signature": "ä"},
        ):
            other = parts._replace(query=urlencode({**query, **changed})).geturl()
            told = await anybody.get(other)
            assert (told.status_code, told.json()["reason"]) == (403, "LINK_INVALID")
        told = await anybody.get(link.replace(made.name, "1-" + "0" * 32 + ".png"))
        assert told.status_code == 403


def test_a_link_expires() -> None:
    times = [NOON]
    links = Links(b"k" * 32, time=timedelta(minutes=5), now=lambda: times[-1])
    link, expire_time = links.link("projects/p/x.png", media_type="image/png")
    assert expire_time == NOON + timedelta(minutes=5)
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}

    def check() -> None:
        links.check(
            "projects/p/x.png",
            media_type=query["type"],
            expires=query["expires"],
            signature=query["signature"],
        )

    times.append(expire_time - timedelta(seconds=1))
    check()
    times.append(expire_time)
    with pytest.raises(Refused) as refused:
        check()
    assert (refused.value.status, refused.value.reason) == (403, "LINK_EXPIRED")
