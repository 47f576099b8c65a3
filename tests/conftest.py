"""A real Valkey for every test, and a cell of its own for each."""

import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.runtime.redis import connect

# gRPC's handlers of fork crash a child that is forked while its threads work; none of our children
# uses what it inherits of gRPC. It is read when gRPC is imported, which is after this.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# Started in the background by a shell without job control, this process ignores Ctrl-C, and so
# would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: Whole stories, of a minute and more. Begun last, one of them would keep one core waiting.
_LONGEST = (
    "tests/plane/test_up_and_demo.py",
    "tests/plane/test_faults.py",
    "tests/worker/test_resume.py",
    "tests/worker/test_real_inference.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have the longest files first, and all else in its order."""
    ranks = {config.rootpath / file: rank for rank, file in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(_LONGEST)))


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test, or a command run in this process, configures does not reach the next test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    logging.captureWarnings(False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """One real server for the whole session."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of a whole run, whose processes share it: the tiny model is built once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def cell() -> str:
    """A cell nobody else uses: its keys need no flushing."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
async def redis(valkey_server: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A client of the server, closed at the end."""
    client = connect(valkey_server.url, max_connections=32)
    yield client
    await client.aclose()
