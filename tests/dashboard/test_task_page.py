"""A task's page: one stream of the page feeds it, and its waterfall is of what really happened."""

import re
from typing import Final

import pytest
from google.protobuf.duration_pb2 import Duration
from playwright.async_api import expect

from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from tests.support.browsers import PATIENCE_MS
from tests.support.dashboards import Stage
from tests.support.receiver import Receiver

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),  # processes start, and a browser
]

#: Counts, in the page, which streams were opened and how many were open at once.
COUNTING: Final = """
window.streams = { opened: [], most: 0 };
let open = 0;
const send = window.fetch;
window.fetch = async (...words) => {
  const name = String(words[0]?.url ?? words[0]).split("/").at(-1);
  if (!name.startsWith("Watch")) return send(...words);
  streams.opened.push(name);
  streams.most = Math.max(streams.most, open += 1);
  let ended = false;
  const end = () => { if (!ended) { ended = true; open -= 1; } };
  (words[1]?.signal ?? words[0].signal).addEventListener("abort", end);
  return send(...words).catch((error) => { end(); throw error; });
};
"""

#: What is said of a state that was saved.
SAVED: Final = re.compile(r"state saved behind step \d+ of \d+")


async def test_one_stream_follows_whatever_is_in_sight(stage: Stage) -> None:
    async with stage.client() as client:
        handle = await client.submit(
            PingInput(echo="one stream", duration=Duration(seconds=600)), output=PingOutput
        )
        page = await stage.page()
        await page.add_init_script(COUNTING)
        await stage.open("tasks?filter=%22one+stream%22", page)
        await expect(page.locator(".rows-row")).to_contain_text("running")
        # When the task is looked at, and something happens to it
        await page.locator(".rows-row a").first.click()
        await expect(page.locator(".task-mark")).to_have_text("running")
        await expect(page.locator(".live")).to_have_text("live")
        await expect(page.locator(".facts > li")).to_have_count(2)
        await handle.cancel()
        await expect(page.locator(".task-mark")).to_have_text("cancelled")
        await expect(page.locator(".facts > li")).to_have_count(4)
        await page.go_back()
        await expect(page.locator(".rows-row")).to_contain_text("cancelled")
    # Then it was one stream at a time, and the same for one task as for many
    streams = await page.evaluate("streams")
    assert streams == {"opened": ["WatchTasks"] * 3, "most": 1}
    await page.close()


async def test_the_waterfall_of_an_image_goes_from_the_queue_to_the_brain(stage: Stage) -> None:
    async with Receiver() as receiver, stage.client() as client:
        handle = await client.submit(
            GenerateImageInput(prompt="the pier", width=64, height=64, steps=4, seed=7),
            output=GenerateImageOutput,
            callback_url=receiver.url,
        )
        page = await stage.open(f"tasks/{handle.id}")
        # The first task of a runner waits for torch and its model.
        await expect(page.locator(".task-mark")).to_have_text("succeeded", timeout=2 * PATIENCE_MS)
        chart = page.get_by_role("table", name="Where the time went")
        await expect(chart.get_by_role("rowheader", name="Brain")).to_be_visible()
        await expect(chart.get_by_role("rowheader", name="Webhook completed")).to_be_visible()
        bars = await chart.get_by_role("rowheader").all_inner_texts()
        of_attempt = ["Attempt 1", "Model load", "Steps", "Encode"]
        assert bars == ["Queued", *of_attempt, "Webhook completed", "Brain"]
        # And it says what the plane says
        usage = (await client.get(handle.id)).usage
        assert 0 < usage.step_seconds < usage.run_seconds
        assert 0 < usage.encode_seconds < usage.run_seconds
        readers = {each.name: each.task for each in await client.log_readers(task_id=handle.id)}
        assert readers["brain"].HasField("done_time")
        # And the device it ran on tells which models are warm
        await stage.open("now", page)
        devices = page.get_by_role("region", name="Devices")
        await expect(devices).to_contain_text("Warm: ")
    await page.close()


async def test_a_running_attempt_shows_its_steps_what_it_makes_and_where_it_was_saved(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        handle = await client.submit(
            GenerateImageInput(
                prompt="the pier",
                width=256,
                height=256,
                steps=150,
                count=8,
                preview_every_steps=2,
            ),
            output=GenerateImageOutput,
        )
        page = await stage.open(f"tasks/{handle.id}")
        chart = page.get_by_role("table", name="Where the time went")
        steps = chart.get_by_role("row").filter(has_text="Steps")
        await expect(steps).to_contain_text("…", timeout=2 * PATIENCE_MS)
        await expect(page.locator(".task-mark")).to_have_text("running")
        # And a small picture of what is being made, and then a newer one
        preview = page.get_by_role("img", name="Preview of what is being made")
        await expect(preview).not_to_have_js_property("naturalWidth", 0)
        first = await preview.get_attribute("src")
        assert first is not None
        await expect(preview).not_to_have_attribute("src", first)
        await expect(preview).not_to_have_js_property("naturalWidth", 0)
        # And where its work was saved, as a fact and as a mark
        saved = page.locator(".facts > li").filter(has_text="checkpoint saved")
        await expect(saved.first).to_contain_text(SAVED)
        await expect(chart.get_by_title(SAVED).first).to_be_visible()
        # When it has ended, there is nothing left of what it showed
        await handle.cancel()
        await expect(page.locator(".task-mark")).to_have_text("cancelled")
        await expect(preview).to_have_count(0)
    assert (stage.overheard.origins, stage.overheard.complaints) == ({stage.origin}, [])
    await page.close()
