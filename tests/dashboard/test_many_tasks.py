"""Many tasks at once: what they do is drawn once a frame, and one wish is for all of them."""

import asyncio
from datetime import timedelta
from typing import Final

import pytest
from playwright.async_api import Page, Route, expect

from callsheet.client import AsyncTaskClient, AsyncTaskHandle, Submission, SubmitOptions
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import task_pb2
from tests.support.dashboards import Stage

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),  # processes start, and a browser
]

CROWD: Final = 1_000
#: Submitted, started and succeeded.
FACTS: Final = 3
#: Counts, in the page, what came and how often it was drawn: batches of responses, frames of the
#: browser, and changes of the document between two frames.
COUNTING: Final = """
window.counted = { responses: 0, batches: 0, frames: 0, mostInAFrame: 0 };
new PerformanceObserver((list) => {
  for (const mark of list.getEntriesByName("callsheet.tasks.applied")) {
    counted.batches += 1;
    counted.responses += mark.detail.responses;
  }
}).observe({ type: "mark" });
let inFrame = 0;
new MutationObserver(() => {
  inFrame += 1;
  counted.mostInAFrame = Math.max(counted.mostInAFrame, inFrame);
}).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
requestAnimationFrame(function next() {
  counted.frames += 1;
  inFrame = 0;
  requestAnimationFrame(next);
});
"""
#: A batch, a tick of the clock, and what a new size of the list brings about.
MOST_IN_A_FRAME: Final = 4


async def doomed(
    client: AsyncTaskClient, word: str, *, count: int
) -> list[AsyncTaskHandle[PingOutput]]:
    """Submit tasks that wait for an hour."""
    return [
        await client.submit(PingInput(echo=word), output=PingOutput, delay=timedelta(hours=1))
        for _ in range(count)
    ]


async def states(client: AsyncTaskClient, handles: list[AsyncTaskHandle[PingOutput]]) -> list[str]:
    """Return how many of the tasks are in which state, as the plane has it."""
    tasks = [await client.get(each.id) for each in handles]
    return [task_pb2.TaskState.Name(task.state).removeprefix("TASK_STATE_") for task in tasks]


async def confirmed(page: Page, *, count: int) -> None:
    """Ask to cancel all, and say yes to so many."""
    await page.get_by_role("button", name="Cancel all of these").click()
    dialog = page.get_by_role("dialog", name=f"Cancel {count} tasks?")
    await dialog.get_by_role("button", name=f"Cancel {count} tasks").click()


async def test_what_a_thousand_tasks_do_is_drawn_once_a_frame_and_only_those_in_sight(
    stage: Stage,
) -> None:
    page = await stage.page()
    await page.add_init_script(COUNTING)
    await stage.open("tasks?filter=meta.crowd%3Ayes", page)
    await expect(page.locator(".live")).to_have_text("live")
    async with stage.client() as client:
        said: SubmitOptions = {"metadata": {"crowd": "yes"}}
        crowd = (PingInput(echo=f"crowd {n}") for n in range(CROWD))
        await client.submit_many([Submission(each, options=said) for each in crowd])
    # Given a list of all of them, of which only those in sight exist
    grid = page.get_by_role("grid", name="Tasks")
    await expect(grid).to_have_attribute("aria-rowcount", str(CROWD + 1))
    assert await grid.get_by_role("row").count() < 100
    # And all of them are followed until they end
    await expect(page.locator(".strip-legend, .tally").first).to_contain_text(f"{CROWD:,}")
    await expect(page.locator(".rows-row").first).to_contain_text("succeeded")
    await grid.focus()
    await page.keyboard.press("End")
    await expect(page.locator(f"[aria-rowindex='{CROWD + 1}']")).to_contain_text("succeeded")
    await expect(page.get_by_role("row").filter(has_text="running")).to_have_count(0)
    # Then what came between two frames was drawn together
    await page.wait_for_function(f"counted.responses >= {FACTS * CROWD}")
    counted: dict[str, int] = await page.evaluate("counted")
    assert counted["batches"] <= counted["frames"]
    assert counted["batches"] < counted["responses"] / 2
    assert counted["mostInAFrame"] <= MOST_IN_A_FRAME
    await page.close()


async def test_all_that_the_filter_means_are_cancelled_after_a_count(stage: Stage) -> None:
    async with stage.client() as client:
        handles = await doomed(client, "doomed", count=3)
        spared = await doomed(client, "spared", count=1)
        page = await stage.open("tasks?filter=state%3Apending+doomed")
        await expect(page.get_by_role("row").filter(has_text="doomed")).to_have_count(3)
        await confirmed(page, count=3)
        await expect(page.get_by_text("3 tasks asked to stop.")).to_be_visible()
        await expect(page.get_by_text("No task fits this filter.")).to_be_visible()
        assert await states(client, handles) == ["CANCELLED"] * 3
        assert await states(client, spared) == ["PENDING"]
        await spared[0].cancel()
    await page.close()


async def test_what_a_bulk_action_is_refused_is_told_by_reason_and_stops_nothing(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        handles = await doomed(client, "contested", count=4)
        page = await stage.open("tasks?filter=contested")
        await page.get_by_role("button", name="Cancel all of these").click()
        dialog = page.get_by_role("dialog", name="Cancel 4 tasks?")
        await expect(dialog).to_be_visible()
        # When two of them end between the count and the answer
        for each in handles[:2]:
            await each.cancel()
        await dialog.get_by_role("button", name="Cancel 4 tasks").click()
        told = page.get_by_text("2 tasks asked to stop. Refused: 2 illegal transition.")
        await expect(told).to_be_visible()
        assert await states(client, handles) == ["CANCELLED"] * 4
    await page.close()


async def test_a_bulk_action_that_is_stopped_ends_what_it_began_and_begins_nothing_more(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        handles = await doomed(client, "halted", count=12)
        page = await stage.open("tasks?filter=halted")
        let_go = asyncio.Event()

        async def hold(route: Route) -> None:
            await let_go.wait()
            await route.continue_()

        await page.route("**/CancelTask", hold)
        async with page.expect_request("**/CancelTask"):
            await confirmed(page, count=12)
        await expect(page.get_by_text("0 of 12 tasks")).to_be_visible()
        await page.get_by_role("button", name="Stop here").click()
        let_go.set()
        await expect(page.get_by_text("Stopped: 5 of 12 tasks asked to stop.")).to_be_visible()
        assert sorted(await states(client, handles)) == ["CANCELLED"] * 5 + ["PENDING"] * 7
        for each in handles:
            if (await client.get(each.id)).state == task_pb2.TASK_STATE_PENDING:
                await each.cancel()
    await page.close()
