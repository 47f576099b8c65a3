"""`callsheetd media`: what was given up is listed, and tried again."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from callsheet.embedded.arguments import command_line
from callsheet.embedded.key_commands import CommandRefused
from callsheet.embedded.media_commands import media_command
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.index import Keys
from callsheet.ledger.media_work import MediaRecord, MediaWork
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.runtime.settings import Settings

MINUTE = timedelta(minutes=1)
Answer = Callable[..., Awaitable[Any]]


@pytest.fixture
def work(redis: Redis, cell: str) -> MediaWork:
    return MediaWork(RedisConnection(redis), Keys(cell))


@pytest.fixture
def answer(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Answer:
    """Runs `callsheetd media … --json` and returns what it prints."""
    settings = Settings(redis_url=valkey_server.url, cell=cell, state_dir=tmp_path)

    async def run(*words: str) -> Any:  # noqa: ANN401  # as JSON has it
        await media_command(settings, command_line().parse_args(["media", *words, "--json"]))
        return json.loads(capsys.readouterr().out)

    return run


async def given_up(work: MediaWork, *task_ids: str) -> None:
    for task_id in task_ids:
        await work.add({task_id: None})
        [claimed] = (await work.claim(limit=9, lease=MINUTE)).tasks
        await work.settle(claimed, MediaRecord(12, f"{task_id} is too large"))


async def test_what_was_given_up_is_listed_and_tried_again(answer: Answer, work: MediaWork) -> None:
    await given_up(work, "first", "second")
    listed = await answer("list")
    assert [each["task_id"] for each in listed] == ["second", "first"]
    assert (listed[0]["tries"], listed[0]["reason"]) == (12, "second is too large")
    assert len(await answer("list", "--limit", "1")) == 1
    assert await answer("retry", "first") == {"retried": ["first"]}
    [claimed] = (await work.claim(limit=9, lease=MINUTE)).tasks
    assert (claimed.task_id, claimed.record) == ("first", MediaRecord())
    assert [each["task_id"] for each in await answer("list")] == ["second"]
    assert await answer("retry", "--all") == {"retried": ["second"]}
    assert await answer("list") == []


async def test_what_was_not_given_up_is_not_tried_again(answer: Answer, work: MediaWork) -> None:
    await work.add({"waiting": None})
    with pytest.raises(CommandRefused, match="media of nobody, waiting were not given up; 0 are"):
        await answer("retry", "waiting", "nobody")
    assert await answer("retry", "--all") == {"retried": []}


@pytest.mark.parametrize("words", [("retry",), ("retry", "--all", "x"), ("list", "--limit", "0")])
def test_a_command_that_says_too_little_or_too_much_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        command_line().parse_args(["media", *words])
