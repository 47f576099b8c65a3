"""Takes a picture of every screen of the dashboard, in light and dark: `make screenshots`.

It brings up a whole plane, gives it something to do, and writes build/screenshots; the three of
the README go to docs/screenshots.
"""

import asyncio
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from google.protobuf.duration_pb2 import Duration
from PIL import Image
from playwright.async_api import Page, expect

from callsheet.client import AsyncTaskClient, Submission
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from tests.support.browsers import CHROMIUM, sign_in
from tests.support.dashboards import Stage, running_stage
from tests.support.node import REPOSITORY
from tests.support.receiver import Receiver, Reply

ALL: Final = REPOSITORY / "build" / "screenshots"
SHOWN: Final = REPOSITORY / "docs" / "screenshots"
#: The pictures of the README, by screen and colours.
OF_README: Final = frozenset({("now", "dark"), ("task", "light"), ("playground", "light")})

Scheme = Literal["light", "dark"]
_PROMPTS: Final = (
    "a lighthouse at dusk, long lens, rain on the glass",
    "the pier at first light, two figures far off",
    "interior, projection booth, dust in the beam",
    "a red kite over the sea, overcast",
)


async def main() -> None:
    """Take all pictures."""
    if CHROMIUM is None:
        sys.exit("There is no Chromium here.")
    ALL.mkdir(parents=True, exist_ok=True)
    SHOWN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")
        async with (
            running_stage(Path(folder, "stage"), cache=cache) as stage,
            stage.client() as client,
            Receiver(Reply(status=503), Reply()) as receiver,
        ):
            places = await _something_to_see(client, receiver)
            for scheme in ("light", "dark"):
                await _all_screens(stage, scheme, places)


async def _something_to_see(client: AsyncTaskClient, receiver: Receiver) -> dict[str, str]:
    """Have the plane do a bit of everything; return each screen's place."""
    images = [
        await client.submit(
            GenerateImageInput(prompt=prompt, seed=7 + n, steps=12, count=2),
            output=GenerateImageOutput,
            callback_url=receiver.url,
            metadata={"scene": "12", "shot": str(n)},
        )
        for n, prompt in enumerate(_PROMPTS)
    ]
    for image in images:
        await image.wait()
    await client.submit_many([Submission(PingInput(echo=f"slate {n}")) for n in range(40)])
    for n in range(3):
        late = await client.submit(
            PingInput(echo=f"late {n}"),
            output=PingOutput,
            delay=timedelta(hours=1),
            expire_after=timedelta(seconds=1),
        )
        await late.wait()
    for n in range(3):
        await client.submit(
            PingInput(echo=f"take {n}", duration=Duration(seconds=600)), output=PingOutput
        )
    running = await client.submit(
        GenerateImageInput(
            prompt=_PROMPTS[0],
            steps=150,
            count=8,
            width=512,
            height=512,
            preview_every_steps=5,
        ),
        output=GenerateImageOutput,
    )
    return {
        "now": "now",
        "tasks": "tasks",
        "task": f"tasks/{images[0].id}",
        "running": f"tasks/{running.id}",
        "playground": f"playground/generate_image?from={images[0].id}",
        "deliveries": "deliveries",
        "dead-letters": "dead-letters",
        "workers": "workers",
    }


async def _all_screens(stage: Stage, scheme: Scheme, places: dict[str, str]) -> None:
    context = await stage.context(color_scheme=scheme, width=1280)
    page = await context.new_page()
    await page.goto(stage.origin)
    await page.get_by_label("API key").wait_for()
    await _picture(page, "sign-in", scheme)
    await sign_in(page, stage.address, stage.plane.key)
    for screen, place in places.items():
        await stage.open(place, page)
        await _settled(page, screen)
        await _picture(page, screen, scheme)
    await context.close()


async def _settled(page: Page, screen: str) -> None:
    """Return when the screen shows what it has."""
    sign = {
        "now": page.get_by_role("region", name="Queues"),
        "tasks": page.locator(".rows-row").first,
        "task": page.get_by_role("rowheader", name="Webhook completed"),
        "running": page.get_by_role("img", name="Preview of what is being made"),
        "playground": page.get_by_role("button", name="As JSON"),
        "deliveries": page.get_by_role("row").nth(1),
        "dead-letters": page.get_by_role("row").nth(1),
        "workers": page.get_by_role("article"),
    }[screen]
    await expect(sign).to_be_visible()
    if screen == "task":
        image = page.get_by_role("img", name="Artifact 1 of 2")
        await expect(image).to_have_js_property("complete", value=True)


async def _picture(page: Page, screen: str, scheme: Scheme) -> None:
    path = ALL / f"{screen}-{scheme}.png"
    await page.screenshot(path=path, animations="disabled")
    if (screen, scheme) in OF_README:
        with Image.open(path) as image:  # a page has few colours
            image.convert("P", palette=Image.Palette.ADAPTIVE).save(
                SHOWN / f"{screen}.png", optimize=True
            )


if __name__ == "__main__":
    asyncio.run(main())
