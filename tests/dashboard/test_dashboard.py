"""The dashboard in a real browser, before a whole plane of real processes."""

import re
from datetime import timedelta
from hashlib import sha256
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration
from playwright.async_api import FilePayload, Page, expect

from callsheet.client import AsyncTaskClient
from callsheet.ledger.keys import create_key, revoke_key
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import task_pb2
from tests.support.browsers import PATIENCE_MS, sign_in
from tests.support.dashboards import Stage
from tests.support.pictures import PNG
from tests.support.planes import CELL, PROJECT
from tests.support.receiver import Receiver

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),  # processes start, and a browser
]

#: The page shows a task's id by its first and last digits.
_TASK_PLACE = re.compile(r"#/tasks/([0-9a-f-]{36})$")
_LONG = Duration(seconds=600)


async def submitted_from_the_page(page: Page) -> str:
    """Press the button; return the id of the task whose page follows."""
    await page.get_by_role("button", name="Submit", exact=True).click()
    await page.wait_for_url(_TASK_PLACE)
    found = _TASK_PLACE.search(page.url)
    assert found is not None
    return found[1]


async def state_of(client: AsyncTaskClient, task_id: str) -> str:
    """Return the task's state, as the plane has it."""
    return task_pb2.TaskState.Name((await client.get(task_id)).state)


async def test_whoever_is_not_signed_in_is_asked_for_a_key_and_a_wrong_one_is_refused(
    stage: Stage,
) -> None:
    context = await stage.context()
    page = await stage.open("tasks", await context.new_page())
    # Given no cookie, the first thing is a key
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.get_by_label("API key").fill("not-a-key")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("key")
    # When it is right, the place that was asked for follows
    await page.get_by_label("API key").fill(stage.plane.key)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
    # And no script can read what the browser keeps
    assert await page.evaluate("document.cookie") == ""
    assert stage.plane.key not in await page.evaluate("JSON.stringify({...localStorage})")
    # Then signing out ends it
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("API key")).to_be_visible()
    await context.close()


async def test_a_revoked_key_signs_the_browser_out_and_ends_what_it_watched(stage: Stage) -> None:
    plane = stage.plane
    record, key = await create_key(
        plane.redis, cell=CELL, projects=frozenset({PROJECT}), roles=frozenset({"read"})
    )
    context = await stage.context()
    page = await context.new_page()
    await sign_in(page, stage.address, key)
    # Given a key that may only read, the tasks come first, and there is nothing to change
    await expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
    await expect(page.locator(".live")).to_have_text("live")
    await expect(page.get_by_role("link", name="Playground")).to_have_count(0)
    await expect(page.get_by_role("button", name="Cancel all of these")).to_have_count(0)
    # When it is revoked
    await revoke_key(plane.redis, cell=CELL, key_id=record.key_id)
    await expect(page.get_by_text("You were signed out")).to_be_visible()
    await expect(page.get_by_label("API key")).to_be_visible()
    await context.close()


async def test_an_image_that_was_submitted_in_the_playground_is_seen_to_move_and_to_appear(
    stage: Stage,
) -> None:
    page = await stage.open("playground/generate_image")
    # Given a form that is made from the contract: what breaks its rules is told beside the field
    await page.get_by_label("Width").fill("65")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await expect(page.get_by_text("Width must be divisible by 8.")).to_be_visible()
    await expect(page.get_by_text("Prompt is needed.")).to_be_visible()
    # When it is filled in as it should be
    await page.get_by_label("Prompt", exact=False).first.fill("a lighthouse at dusk")
    await page.get_by_label("Width").fill("64")
    await page.get_by_label("Height").fill("64")
    await page.get_by_label("Steps", exact=True).fill("100")
    await page.get_by_label("Seed", exact=True).fill("7")
    task_id = await submitted_from_the_page(page)
    # Then its progress is seen, and moves
    await page.get_by_role("progressbar", name="Progress of the task").wait_for()
    # The first task of a runner waits for torch and its model.
    moved = page.locator(".note-list > li").nth(1)
    await expect(moved).to_be_attached(timeout=2 * PATIENCE_MS)
    # And the image appears, drawn from what the gateway serves
    await expect(page.locator(".task-mark")).to_have_text("succeeded", timeout=2 * PATIENCE_MS)
    image = page.get_by_role("img", name="Artifact 1 of 1")
    await expect(image).to_have_js_property("naturalWidth", 64)
    async with stage.client() as client:
        assert await state_of(client, task_id) == "TASK_STATE_SUCCEEDED"
        # Whoever submits here looks on, and is shown what is being made
        assert (await client.get(task_id)).spec.generate_image.preview_every_steps > 0
    # And where the time went is told
    chart = page.get_by_role("table", name="Where the time went")
    await expect(chart.get_by_role("rowheader", name="Queued")).to_be_visible()
    await expect(chart.get_by_role("rowheader", name="Attempt 1")).to_be_visible()
    await expect(page.get_by_text("task succeeded")).to_be_visible()
    await page.close()


async def test_a_file_is_brought_for_a_field_that_names_one(stage: Stage) -> None:
    page = await stage.open("playground/edit_image")
    image = page.get_by_role("group", name="Image", exact=True)
    await image.get_by_role("button", name="Set it").click()
    bring = image.get_by_role("button", name="Bring a file for Uri")
    # Given a file of a kind that is not taken, it is told why
    async with page.expect_file_chooser() as refused:
        await bring.click()
    wrong = FilePayload(name="notes.bin", mimeType="application/octet-stream", buffer=b"\0" * 64)
    await (await refused.value).set_files(wrong)
    await expect(image.get_by_role("alert")).to_contain_text("files may be")
    await expect(image.get_by_label("Uri", exact=True)).to_have_value("")
    # When a picture is brought
    async with page.expect_file_chooser() as chooser:
        await bring.click()
    await (await chooser.value).set_files(
        FilePayload(name="pier.png", mimeType="image/png", buffer=PNG)
    )
    # Then the field names it
    await expect(image.get_by_role("status")).to_contain_text("pier.png, image/png")
    name = re.compile(rf"/projects/{PROJECT}/uploads/{sha256(PNG).hexdigest()[:32]}\.png$")
    await expect(image.get_by_label("Uri", exact=True)).to_have_value(name)
    await expect(page.locator("pre.code")).to_contain_text("/uploads/")
    await page.close()


async def test_a_task_is_submitted_again_with_edits(stage: Stage) -> None:
    async with stage.client() as client:
        handle = await client.submit(
            PingInput(echo="first"), output=PingOutput, metadata={"shot": "12"}
        )
        await handle.result()
        page = await stage.open(f"tasks/{handle.id}")
        await page.get_by_role("link", name="Replay with edits").click()
        # Given the form as the task was submitted
        await expect(page.get_by_label("Echo")).to_have_value("first")
        await expect(page.get_by_label("Metadata")).to_have_value("shot=12")
        await page.get_by_label("Echo").fill("second")
        await expect(page.locator("pre.code")).to_contain_text('"echo":"second"')
        # When it is submitted with an edit
        task_id = await submitted_from_the_page(page)
        await expect(page.locator(".task-mark")).to_have_text("succeeded")
        # Then that is another task
        task = await client.get(task_id)
    assert task_id != handle.id
    assert (task.spec.ping.echo, dict(task.metadata)) == ("second", {"shot": "12"})
    await page.close()


async def test_a_running_task_is_cancelled_and_then_retried(stage: Stage) -> None:
    async with stage.client() as client:
        handle = await client.submit(PingInput(duration=_LONG), output=PingOutput)
        page = await stage.open(f"tasks/{handle.id}")
        await expect(page.locator(".task-mark")).to_have_text("running")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".task-mark")).to_have_text("cancelled")
        assert await state_of(client, handle.id) == "TASK_STATE_CANCELLED"
        await page.get_by_role("button", name="Retry").click()
        # Then another task follows, which says what it repeats
        await expect(page.get_by_role("link", name=handle.id)).to_be_visible()
        found = _TASK_PLACE.search(page.url)
        assert found is not None
        assert (await client.get(found[1])).retry_of == handle.id
        await client.cancel(found[1])
    await page.close()


async def test_the_filter_narrows_the_list_stands_in_the_address_and_follows_what_comes(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        wanted = await client.submit(PingInput(echo="the pier"), output=PingOutput)
        await client.submit(PingInput(echo="the cliff"), output=PingOutput)
        page = await stage.open("tasks")
        rows = page.get_by_role("row").filter(has=page.get_by_role("gridcell"))
        await expect(page.get_by_text("the cliff")).to_be_visible()
        # When something is typed, only what fits stays
        await page.get_by_role("searchbox", name="Filter tasks").fill('type:ping "the pier"')
        await expect(rows).to_have_count(1)
        await expect(rows.first).to_contain_text(wanted.id[:8])
        await expect(page).to_have_url(re.compile(r"filter=type%3Aping"))
        # And what comes later and fits is there by itself
        await client.submit(PingInput(echo="the pier again"), output=PingOutput)
        await expect(rows).to_have_count(2)
        # And the address alone shows the same
        other = await stage.page()
        await other.goto(page.url)
        await expect(other.get_by_role("row").filter(has_text="the pier")).to_have_count(2)
        await expect(other.get_by_role("row").filter(has_text="the cliff")).to_have_count(0)
    await other.close()
    await page.close()


async def test_a_webhook_is_delivered_once_more(stage: Stage) -> None:
    async with Receiver() as receiver, stage.client() as client:
        handle = await client.submit(
            PingInput(echo="told"), output=PingOutput, callback_url=receiver.url
        )
        (first,) = await receiver.arrived()
        page = await stage.open("deliveries")
        row = page.get_by_role("row").filter(has_text=handle.id[:8])
        await expect(row).to_contain_text("delivered")
        await row.get_by_role("button", name=re.compile("Replay")).click()
        await expect(page.get_by_text("The webhook is delivered once more.")).to_be_visible()
        *_, second = await receiver.arrived(2)
        assert second.id == first.id
        # And the task's own page tells of its webhook
        await page.goto(f"{stage.origin}/#/tasks/{handle.id}")
        await expect(page.get_by_role("rowheader", name="Webhook completed")).to_be_visible()
    await page.close()


async def test_the_page_goes_on_after_the_gateway_was_killed_and_misses_nothing(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        handle = await client.submit(PingInput(duration=_LONG, echo="outage"), output=PingOutput)
        tasks = await stage.open("tasks?filter=outage")
        task = await stage.open(f"tasks/{handle.id}")
        await expect(tasks.get_by_role("row").filter(has_text="outage")).to_contain_text("running")
        await expect(task.locator(".task-mark")).to_have_text("running")
        # When the gateway dies, and something happens meanwhile
        stage.plane.rooms["gateway"].kill()
        await expect(tasks.locator(".live")).to_have_text("reconnecting")
        await handle.cancel()
        await client.submit(PingInput(echo="outage too"), output=PingOutput)
        stage.plane.start_room("gateway")
        # Then both pages show it, without being loaded anew
        rows = tasks.get_by_role("row").filter(has_text="outage")
        await expect(rows).to_have_count(2)
        await expect(rows.last).to_contain_text("cancelled")
        await expect(tasks.locator(".live")).to_have_text("live")
        await expect(task.locator(".task-mark")).to_have_text("cancelled")
        await expect(task.locator(".facts > li")).to_have_count(4)
    await tasks.close()
    await task.close()


async def test_a_dead_letter_is_read_and_retried(stage: Stage) -> None:
    async with stage.client() as client:
        handle = await client.submit(
            PingInput(echo="late"),
            output=PingOutput,
            delay=timedelta(hours=1),
            expire_after=timedelta(seconds=1),
        )
        await handle.wait()
        page = await stage.open("dead-letters")
        letter = page.get_by_role("row").filter(has_text=handle.id[:8])
        await expect(letter).to_contain_text("expired")
        await letter.get_by_role("button", name=re.compile("Retry")).click()
        await letter.get_by_role("button", name="Show the new one").click()
        await expect(page.get_by_role("link", name=handle.id)).to_be_visible()
    await page.close()


async def test_operators_see_queues_and_hold_them(stage: Stage) -> None:
    page = await stage.open("now")
    queues = page.get_by_role("region", name="Queues")
    row = queues.get_by_role("row").filter(has_text="system")
    await row.get_by_role("button", name="Pause system").click()
    await expect(row).to_contain_text("paused")
    async with stage.client() as client:
        # Given a held queue, its tasks say why they wait
        handle = await client.submit(PingInput(), output=PingOutput)
        other = await stage.open(f"tasks/{handle.id}")
        await expect(other.get_by_text("Operators have paused its queue")).to_be_visible()
        await row.get_by_role("button", name="Resume system").click()
        await expect(other.locator(".task-mark")).to_have_text("succeeded")
    await other.close()
    await page.close()


async def test_operators_pause_a_worker_and_have_it_go_on(stage: Stage) -> None:
    page = await stage.open("workers")
    card = page.get_by_role("article")
    await card.get_by_role("button", name="Pause").click()
    await expect(card).to_contain_text("paused")
    await card.get_by_role("button", name="Resume").click()
    await expect(card).to_contain_text("working")
    await page.close()


async def test_a_task_that_is_not_there_is_said_not_to_be(stage: Stage) -> None:
    page = await stage.open(f"tasks/{uuid4()}")
    await expect(page.get_by_role("alert")).to_contain_text("no task")
    await page.close()


async def test_the_page_is_used_by_keys_alone_and_says_what_it_is(stage: Stage) -> None:
    async with stage.client() as client:
        await (await client.submit(PingInput(echo="by keys"), output=PingOutput)).result()
    page = await stage.open("tasks?filter=keys")
    # A list without a row has nothing to walk to
    await expect(page.locator(".rows-row")).to_contain_text("by keys")
    for landmark in ("banner", "navigation", "main", "search"):
        await expect(page.get_by_role(landmark)).to_have_count(1)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    # The list is walked with arrows, and a task opened with Enter
    await page.get_by_role("grid", name="Tasks").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(_TASK_PLACE)
    # Whoever cannot see the colours is told the state, and of its changes
    await expect(page.locator(".task-mark")).to_have_attribute("aria-live", "polite")
    await page.close()


async def test_light_and_dark_are_the_systems_own_unless_the_person_chooses(stage: Stage) -> None:
    page = await stage.open("now")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(colour)
    await page.emulate_media(color_scheme="dark")
    dark = await page.evaluate(colour)
    assert light != dark
    body = page.locator("body")
    await page.get_by_role("button", name="Colours: system").click()
    await expect(body).to_have_css("background-color", light)
    await page.get_by_role("button", name="Colours: light").click()
    await expect(body).to_have_css("background-color", dark)
    await page.get_by_role("button", name="Colours: dark").click()
    await page.close()


async def test_the_pages_asked_nobody_else_and_broke_no_policy(stage: Stage) -> None:
    """Last, for it is about all pages of the tests before."""
    page = await stage.page()
    response = await page.goto(stage.origin)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert stage.overheard.origins == {stage.origin}
    assert stage.overheard.complaints == []
    await page.close()
