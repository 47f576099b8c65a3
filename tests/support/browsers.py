"""A real Chromium for tests, and what its pages asked for and complained of."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

#: Where the system's own Chromium is; None where there is none.
CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
#: How long a page may take to show what it must, in milliseconds.
PATIENCE_MS: Final = 30_000.0


@asynccontextmanager
async def running_chromium() -> AsyncGenerator[Browser]:
    """Yield a browser without a window. There must be a Chromium."""
    assert CHROMIUM is not None
    async with async_playwright() as playwright:
        # A container has no user namespaces for a sandbox, and the pages are our own.
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Overheard:
    """What the pages of a context did besides what was asked of them."""

    #: The origins they asked for anything.
    origins: set[str] = field(default_factory=set[str])
    #: Errors in their consoles and exceptions nobody caught, but for requests that failed.
    complaints: list[str] = field(default_factory=list[str])

    def listen(self, context: BrowserContext) -> None:
        """Listen to every page of the context."""
        context.on("request", lambda request: self.origins.add(_origin(request.url)))
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on(
            "console",
            lambda message: (
                self.complaints.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )


def _origin(url: str) -> str:
    parts = urlsplit(url.removeprefix("blob:"))  # what a page keeps in memory has its origin
    return f"{parts.scheme}://{parts.netloc}"


async def sign_in(page: Page, address: str, key: str) -> None:
    """Open the dashboard at *address* and sign in with the key."""
    await page.goto(f"http://{address}/")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("navigation", name="Screens").wait_for()
