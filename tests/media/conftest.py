"""A reader and a film that tests of files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from callsheet.media.reader import MediaReader
from tests.support.handling import HandlerContext
from tests.support.media_files import BLUE, RED, plain, tone, video_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def context(folder: Path) -> HandlerContext:
    return HandlerContext(folder)


@pytest.fixture(scope="module")
def reader(context: HandlerContext) -> Iterator[MediaReader]:
    """One reader for many tests: a file that is refused does not spoil it for the next one."""
    with context.open_media() as reader:
        yield reader


@pytest.fixture(scope="module")
def film(folder: Path) -> bytes:
    """Half a second of red, half a second of blue, and a tone."""
    return video_file([plain(RED)] * 5 + [plain(BLUE)] * 5, folder, waveform=tone(440, channels=2))
