"""Every screen, in light and dark, as an engine of accessibility rules sees it."""

from datetime import timedelta
from typing import Any, Final, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from playwright.async_api import Page, expect

from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from tests.support.browsers import sign_in
from tests.support.dashboards import Stage
from tests.support.node import DASHBOARD
from tests.support.receiver import Receiver

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),  # processes start, and a browser
]

ENGINE: Final = DASHBOARD / "node_modules" / "axe-core" / "axe.min.js"
#: What is asked of a page: all levels but the third, and what is good practice besides.
RULES: Final = (
    "wcag2a wcag2aa wcag21a wcag21aa wcag22a wcag22aa best-practice".split()  # noqa: SIM905 - one line of words
)
ASK: Final = """
async (rules) => {
  const { violations } = await axe.run(document, { runOnly: rules, resultTypes: ["violations"] });
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))]);
}
"""


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine's script, or a skip that says what to do."""
    if not ENGINE.is_file():
        pytest.skip("the dashboard's packages are not installed: `make dashboard` does so from npm")
    return ENGINE.read_text()


async def violations(page: Page) -> list[Any]:
    """Return what the page breaks: rules, and the elements that do."""
    return cast("list[Any]", await page.evaluate(ASK, RULES))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_screen_breaks_a_rule(stage: Stage, engine: str, scheme: str) -> None:
    context = await stage.context(color_scheme=scheme)
    await context.add_init_script(engine)
    page = await context.new_page()
    found: dict[str, list[Any]] = {}
    async with Receiver() as receiver, stage.client() as client:
        told = await client.submit(
            PingInput(echo="told"), output=PingOutput, callback_url=receiver.url
        )
        late = await client.submit(
            PingInput(echo="late"),
            output=PingOutput,
            delay=timedelta(hours=1),
            expire_after=timedelta(seconds=1),
        )
        running = await client.submit(PingInput(duration=Duration(seconds=600)), output=PingOutput)
        waiting = await client.submit(PingInput(), output=PingOutput, delay=timedelta(hours=1))
        await told.result()
        await late.wait()
        await page.goto(stage.origin)
        await page.get_by_label("API key").wait_for()
        found["sign-in"] = await violations(page)
        await sign_in(page, stage.address, stage.plane.key)
        chart = page.get_by_role("rowheader", name="Webhook completed")
        signs = {
            "now": page.get_by_role("region", name="Queues"),
            "tasks": page.locator(".rows-row").first,
            f"tasks/{told.id}": chart,
            f"tasks/{late.id}": page.get_by_role("heading", name="expired"),
            f"tasks/{running.id}": page.get_by_text("it has told no progress yet"),
            f"tasks/{waiting.id}": page.get_by_text("It was submitted for later."),
            "playground": page.get_by_role("button", name="As JSON"),
            "playground/generate_image": page.get_by_role("button", name="As JSON"),
            "deliveries": page.get_by_role("row").nth(1),
            "dead-letters": page.get_by_role("row").nth(1),
            "workers": page.get_by_role("article"),
        }
        for place, sign in signs.items():
            await stage.open(place, page)
            await expect(sign).to_be_visible()
            found[place] = await violations(page)
        # And a question over the page
        await stage.open("workers", page)
        await page.get_by_role("button", name="Drain").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        found["a question"] = await violations(page)
        await running.cancel()
        await waiting.cancel()
    assert {place: broken for place, broken in found.items() if broken} == {}
    await context.close()
