"""How long a key is believed."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from callsheet.control.authentication import Authentication
from callsheet.ledger.credentials import Credentials
from callsheet.ledger.errors import KeyInvalid, LedgerUnavailable
from callsheet.ledger.index import Keys
from callsheet.ledger.keys import create_key, revoke_key
from callsheet.ledger.redis_connection import RedisConnection


def _authentication(
    redis: Redis, cell: str, *, believed: timedelta = timedelta(hours=1)
) -> Authentication:
    return Authentication(Credentials(RedisConnection(redis), Keys(cell)), believed=believed)


async def _revoked(redis: Redis, cell: str, *, believed: timedelta) -> tuple[Authentication, str]:
    """Return an authentication that knew a key before it was revoked, and the key."""
    authentication = _authentication(redis, cell, believed=believed)
    record, text = await create_key(
        redis, cell=cell, projects=frozenset({"default"}), roles=frozenset({"read"})
    )
    principal = await authentication.principal([("x-api-key", text)])
    assert principal.key_id == record.key_id
    assert await revoke_key(redis, cell=cell, key_id=record.key_id)
    return authentication, text


async def test_a_revoked_key_is_refused_as_soon_as_it_is_asked_for_again(
    redis: Redis, cell: str
) -> None:
    authentication, text = await _revoked(redis, cell, believed=timedelta(0))
    with pytest.raises(KeyInvalid):
        await authentication.principal([("x-api-key", text)])


async def test_a_key_is_not_asked_for_again_while_it_is_believed(redis: Redis, cell: str) -> None:
    authentication, text = await _revoked(redis, cell, believed=timedelta(hours=1))
    principal = await authentication.principal([("x-api-key", text)])
    assert principal.projects == frozenset({"default"})


async def test_a_key_that_was_unknown_is_asked_for_each_time(redis: Redis, cell: str) -> None:
    """A key made a moment ago works at once."""
    authentication = _authentication(redis, cell)
    text = "cs_0123abcd_" + "k" * 43
    with pytest.raises(KeyInvalid):
        await authentication.principal([("x-api-key", text)])
    await create_key(
        redis, cell=cell, projects=frozenset({"a"}), roles=frozenset({"read"}), text=text
    )
    assert (await authentication.principal([("x-api-key", text)])).key_id == "0123abcd"


async def test_a_stream_goes_on_while_its_key_stands_and_ends_with_it(
    redis: Redis, cell: str
) -> None:
    authentication, text = await _known(redis, cell)
    with pytest.raises(KeyInvalid):
        await _streamed(redis, cell, authentication, text)


async def test_who_is_no_longer_recognised_is_not_believed_either(redis: Redis, cell: str) -> None:
    authentication, text = await _known(redis, cell)
    await authentication.principal([("x-api-key", text)])
    with pytest.raises(KeyInvalid):
        await _streamed(redis, cell, authentication, text)
    with pytest.raises(KeyInvalid):
        await authentication.principal([("x-api-key", text)])


async def _streamed(redis: Redis, cell: str, authentication: Authentication, text: str) -> None:
    """Stream for ever; the key is revoked meanwhile."""
    async with authentication.standing([("x-api-key", text)]):
        await authentication.look()
        assert await revoke_key(redis, cell=cell, key_id=text[3:11])
        await authentication.look()
        await asyncio.Event().wait()


async def test_a_ledger_that_is_away_ends_no_stream(
    redis: Redis, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can say whether the key still stands."""
    authentication, text = await _known(redis, cell)

    async def away(*_: object) -> None:
        raise LedgerUnavailable("away")

    async with authentication.standing([("x-api-key", text)]):
        monkeypatch.setattr(RedisConnection, "script", away)
        await authentication.look()
        await asyncio.sleep(0)


async def test_a_time_limit_of_the_stream_itself_is_left_as_it_is(redis: Redis, cell: str) -> None:
    authentication, text = await _known(redis, cell)
    with pytest.raises(TimeoutError):
        async with authentication.standing([("x-api-key", text)]), asyncio.timeout(0):
            await asyncio.Event().wait()


async def _known(redis: Redis, cell: str) -> tuple[Authentication, str]:
    """Return an authentication that believes for long, and a key."""
    _, text = await create_key(
        redis, cell=cell, projects=frozenset({"default"}), roles=frozenset({"read"})
    )
    return _authentication(redis, cell), text
