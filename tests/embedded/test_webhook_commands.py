"""`callsheetd webhooks`: secrets that rotate, keys that are never shown, endpoints enabled."""

import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from callsheet.embedded.arguments import command_line
from callsheet.embedded.key_commands import CommandRefused
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.embedded.webhook_commands import webhooks_command
from callsheet.ledger.delivery_model import Disabled, disabled_field, endpoint_of
from callsheet.ledger.index import Keys
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.webhook_registry import WebhookRegistry
from callsheet.runtime.secrets import SecretUnusable, open_sealed
from callsheet.runtime.settings import Settings

MASTER_KEY = "a master key for tests, 32 or more"
API_KEY = "cms-key-0123456789"

Answer = Callable[..., Awaitable[Any]]


@pytest.fixture
def settings(valkey_server: EmbeddedValkey, cell: str, tmp_path: Path) -> Settings:
    return Settings(
        redis_url=valkey_server.url,
        cell=cell,
        state_dir=tmp_path,
        webhook_master_key=MASTER_KEY,  # pyright: ignore[reportArgumentType]  # checked at run time
    )


@pytest.fixture
def registry(redis: Redis, cell: str) -> WebhookRegistry:
    return WebhookRegistry(RedisConnection(redis), Keys(cell))


@pytest.fixture
def answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Answer:
    """Runs `callsheetd webhooks … --json` and returns what it prints."""

    async def run(*words: str, stdin: str = "", **changes: object) -> Any:  # noqa: ANN401  # as JSON has it
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        asked = command_line().parse_args(["webhooks", *words, "--json"])
        await webhooks_command(settings.model_copy(update=changes), asked)
        return json.loads(capsys.readouterr().out)

    return run


async def test_a_secret_is_rotated_with_both_signing_until_it_is_finished(answer: Answer) -> None:
    first = await answer("secret", "show", "--project", "p")
    rotating = await answer("secret", "rotate", "--project", "p")
    assert [each["version"] for each in rotating["secrets"]] == [2, 1]
    assert rotating["secrets"][1]["secret"] == first["secret"] != rotating["secret"]
    assert await answer("secret", "show", "--project", "p") == rotating
    with pytest.raises(CommandRefused, match="finish that first"):
        await answer("secret", "rotate", "--project", "p")
    finished = await answer("secret", "finish", "--project", "p")
    assert finished["secrets"] == rotating["secrets"][:1]
    with pytest.raises(CommandRefused, match="is not rotated now"):
        await answer("secret", "finish", "--project", "p")
    # Another project's goes on as it was, and the next rotation counts on
    assert (await answer("secret", "show", "--project", "q"))["version"] == 1
    again = await answer("secret", "rotate", "--project", "p")
    assert [each["version"] for each in again["secrets"]] == [3, 2]


async def test_an_origin_is_registered_listed_without_its_key_and_removed(
    answer: Answer, registry: WebhookRegistry, redis: Redis, cell: str
) -> None:
    words = ("origin", "add", "HTTPS://CMS.example", "--project", "p")
    added = await answer(*words, stdin=f"{API_KEY}\n")
    assert added == {"project": "p", "origin": "https://cms.example:443"}
    [listed] = await answer("origin", "list")
    assert (listed["project"], listed["origin"]) == ("p", "https://cms.example:443")
    assert API_KEY not in json.dumps([added, listed])
    # It is sealed where it is kept
    [kept] = (await registry.read()).origins
    assert open_sealed(MASTER_KEY.encode(), kept.sealed_key) == API_KEY
    fields = await RedisConnection(redis).command("HGETALL", Keys(cell).webhook_origins)
    assert API_KEY not in str(fields)
    with pytest.raises(SecretUnusable, match="another master key"):
        open_sealed(b"n" * 32, kept.sealed_key)
    assert await answer("origin", "list", "--project", "q") == []
    await answer("origin", "remove", "https://cms.example:443", "--project", "p")
    assert await answer("origin", "list") == []
    with pytest.raises(CommandRefused, match="gets no key"):
        await answer("origin", "remove", "https://cms.example", "--project", "p")


async def test_a_key_may_come_in_a_variable_but_not_on_the_command_line(
    answer: Answer, registry: WebhookRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMS_KEY", API_KEY)
    words = ("origin", "add", "https://cms.example", "--project", "p", "--key-variable")
    await answer(*words, "CMS_KEY")
    [kept] = (await registry.read()).origins
    assert open_sealed(MASTER_KEY.encode(), kept.sealed_key) == API_KEY
    with pytest.raises(CommandRefused, match="NOT_THERE is empty or not set"):
        await answer(*words, "NOT_THERE")
    for word in ("--key", "--api-key"):
        with pytest.raises(SystemExit):
            command_line().parse_args(["webhooks", *words[:-1], word, API_KEY])


@pytest.mark.parametrize(
    "key", ["", "short", "with a space", "tab\there-and-more", "ключ-ключ", "x" * 513]
)
async def test_what_cannot_be_a_header_is_no_key(answer: Answer, key: str) -> None:
    with pytest.raises(CommandRefused, match="8 to 512 visible"):
        await answer("origin", "add", "https://cms.example", "--project", "p", stdin=key)


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        ("cms.example", "scheme"),
        ("https://cms.example/api", "it has a path"),
        ("https://cms.example/?a=b", "it has a path"),
        ("https://user@cms.example", "user or password"),
        ("http://cms.example", "not https"),
        ("ftp://cms.example", "scheme"),
    ],
)
async def test_what_is_no_origin_gets_no_key(answer: Answer, origin: str, why: str) -> None:
    with pytest.raises(CommandRefused, match=why):
        await answer(
            *("origin", "add", origin, "--project", "p"), stdin=API_KEY, webhook_allow_http=False
        )


async def test_disabled_endpoints_and_lines_that_failed_are_listed_and_enabled(
    answer: Answer, redis: Redis, cell: str
) -> None:
    keys, url = Keys(cell), "https://gone.example/hook"
    noon = datetime(2027, 3, 1, 12, tzinfo=UTC)
    await RedisConnection(redis).command(
        "HSET",
        keys.delivery_disabled,
        disabled_field("p", endpoint_of(url)),
        Disabled(url, "it is gone", noon).encode(),
    )
    connection = RedisConnection(redis)
    await connection.command("HSET", keys.delivery_circuits, "p/https://away.example:443", "6 7 8 ")
    await connection.command("HSET", keys.delivery_circuits, "q/https://slow.example:443", "1 0 0 ")
    gone, away, slow = await answer("endpoint", "list")
    assert (gone["state"], gone["project"], gone["endpoint"]) == ("disabled", "p", url)
    assert (gone["reason"], gone["since"]) == ("it is gone", "2027-03-01T12:00:00+00:00")
    assert (away["state"], away["endpoint"]) == ("away", "https://away.example:443")
    assert (away["failures"], slow["state"]) == (6, "failing")
    assert len(await answer("endpoint", "list", "--project", "q")) == 1
    await answer("endpoint", "enable", url, "--project", "p")
    assert len(await answer("endpoint", "list", "--project", "p")) == 1
    with pytest.raises(CommandRefused, match="is not disabled for p"):
        await answer("endpoint", "enable", url, "--project", "p")
