"""How long a key is believed."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from callsheet.control.authentication import Authentication
from callsheet.ledger.errors import KeyInvalid
from callsheet.ledger.index import Keys
from callsheet.ledger.keys import create_key, revoke_key
from callsheet.ledger.redis_connection import RedisConnection


async def _revoked(redis: Redis, cell: str, *, believed: timedelta) -> tuple[Authentication, str]:
    """Return an authentication that knew a key before it was revoked, and the key."""
    authentication = Authentication(RedisConnection(redis), Keys(cell), believed=believed)
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
    authentication = Authentication(RedisConnection(redis), Keys(cell), believed=timedelta(hours=1))
    text = "cs_0123abcd_" + "k" * 43
    with pytest.raises(KeyInvalid):
        await authentication.principal([("x-api-key", text)])
    await create_key(
        redis, cell=cell, projects=frozenset({"a"}), roles=frozenset({"read"}), text=text
    )
    assert (await authentication.principal([("x-api-key", text)])).key_id == "0123abcd"
