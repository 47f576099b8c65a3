"""A whole plane with its gateway and a brain, and a browser that is signed in to the dashboard."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, expect

from callsheet.client import AsyncTaskClient
from tests.support.brains import SmallBrainProcess
from tests.support.browsers import PATIENCE_MS, Overheard, running_chromium, sign_in
from tests.support.planes import Plane, free_address, whole_plane


class Stage:
    """The plane, the gateway before it, and the page that a person looks at."""

    def __init__(
        self, plane: Plane, browser: Browser, address: str, *, brain: SmallBrainProcess
    ) -> None:
        self.plane = plane
        self.brain = brain
        self.browser = browser
        self.address = address
        self.overheard = Overheard()
        self._context: BrowserContext | None = None

    @property
    def origin(self) -> str:
        """Where the page comes from."""
        return f"http://{self.address}"

    def client(self) -> AsyncTaskClient:
        """Return a client of the plane, for what a test does behind the page's back."""
        return self.plane.client()

    async def context(self, *, color_scheme: str = "light", width: int = 1360) -> BrowserContext:
        """Return a context in which nobody is signed in."""
        context = await self.browser.new_context(
            color_scheme="dark" if color_scheme == "dark" else "light",
            viewport={"width": width, "height": 860},
        )
        context.set_default_timeout(PATIENCE_MS)
        self.overheard.listen(context)
        return context

    async def page(self) -> Page:
        """Return a new page of the person who is signed in."""
        if self._context is None:
            self._context = await self.context()
            first = await self._context.new_page()
            await sign_in(first, self.address, self.plane.key)
            await first.close()
        return await self._context.new_page()

    async def open(self, place: str, page: Page | None = None) -> Page:
        """Return a page that is at the place, such as tasks or tasks/<id>."""
        page = page or await self.page()
        await page.goto(f"{self.origin}/#/{place}")
        return page


@asynccontextmanager
async def running_stage(folder: Path, *, cache: Path) -> AsyncGenerator[Stage]:
    """Yield a stage: every process of a plane, the gateway, a brain, and a Chromium."""
    expect.set_options(timeout=PATIENCE_MS)
    address = free_address()
    brain_folder = folder / "small-brain"
    brain_folder.mkdir(parents=True)
    brain = SmallBrainProcess(brain_folder)
    await brain.start()
    variables = {
        "BRAIN_WS_URL": brain.url,
        "CALLSHEET_GATEWAY_ADDRESS": address,
        "CALLSHEET_HEALTH_ADDRESS": "127.0.0.1:0",
        "CALLSHEET_DOCS_ADDRESS": "127.0.0.1:0",
        # Tiny models are done long before work is worth saving otherwise.
        "CALLSHEET_CHECKPOINT_SECONDS": "0.2",
    }
    try:
        async with whole_plane(folder, cache=cache, variables=variables) as plane:
            plane.start_room("gateway")
            async with running_chromium() as browser:
                yield Stage(plane, browser, address, brain=brain)
    finally:
        brain.kill()
