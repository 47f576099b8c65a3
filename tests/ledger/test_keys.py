"""API keys: shown once, kept as digests, recognised until revoked."""

import re
from typing import cast

import pytest
from redis.asyncio import Redis

from callsheet.ledger.access import Role
from callsheet.ledger.errors import KeyInvalid
from callsheet.ledger.index import Keys
from callsheet.ledger.keys import create_key, list_keys, recognise, revoke_key
from callsheet.ledger.redis_connection import RedisConnection

PROJECTS = frozenset({"default", "test_project"})
TEXT = "cs_0123abcd_" + "x" * 43


async def test_a_key_stands_for_its_projects_and_roles(redis: Redis, cell: str) -> None:
    record, text = await create_key(
        redis, cell=cell, projects=PROJECTS, roles=frozenset({"submit", "read"})
    )
    principal = await recognise(RedisConnection(redis), Keys(cell), text)
    assert principal == record.principal
    assert principal.projects == PROJECTS
    assert principal.roles == {Role.SUBMIT, Role.READ}
    assert text.startswith(f"cs_{record.key_id}_")
    assert re.fullmatch(r"cs_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", text)


async def test_no_two_keys_are_alike(redis: Redis, cell: str) -> None:
    made = [
        await create_key(redis, cell=cell, projects=PROJECTS, roles=frozenset({"read"}))
        for _ in range(3)
    ]
    assert len({record.key_id for record, _ in made}) == 3
    assert len({text for _, text in made}) == 3


async def test_only_a_keys_digest_is_kept(redis: Redis, cell: str) -> None:
    record, text = await create_key(
        redis, cell=cell, projects=PROJECTS, roles=frozenset({"operate"})
    )
    connection = RedisConnection(redis)
    secret = text.removeprefix(f"cs_{record.key_id}_").encode()
    stored = cast("list[bytes]", await connection.command("HVALS", Keys(cell).api_keys))
    assert secret not in b"".join(stored)
    assert record.digest.encode() in b"".join(stored)
    assert secret.decode() not in repr(await list_keys(redis, cell=cell))


async def test_a_given_text_is_registered_as_it_is(redis: Redis, cell: str) -> None:
    roles = frozenset({"read"})
    record, text = await create_key(redis, cell=cell, projects=PROJECTS, roles=roles, text=TEXT)
    assert (record.key_id, text) == ("0123abcd", TEXT)
    again, _ = await create_key(redis, cell=cell, projects=PROJECTS, roles=roles, text=TEXT)
    assert (await list_keys(redis, cell=cell)) == [again]


async def test_keys_are_listed_from_the_oldest(redis: Redis, cell: str) -> None:
    made = [
        (await create_key(redis, cell=cell, projects=PROJECTS, roles=frozenset({"read"})))[0]
        for _ in range(3)
    ]
    assert await list_keys(redis, cell=cell) == made
    assert await list_keys(redis, cell=f"{cell}-other") == []


async def test_a_revoked_key_is_not_recognised(redis: Redis, cell: str) -> None:
    record, text = await create_key(redis, cell=cell, projects=PROJECTS, roles=frozenset({"read"}))
    assert await revoke_key(redis, cell=cell, key_id=record.key_id)
    assert not await revoke_key(redis, cell=cell, key_id=record.key_id)
    with pytest.raises(KeyInvalid) as refusal:
        await recognise(RedisConnection(redis), Keys(cell), text)
    assert not refusal.value.missing


async def test_a_key_of_another_cell_is_not_recognised(redis: Redis, cell: str) -> None:
    _, text = await create_key(redis, cell=cell, projects=PROJECTS, roles=frozenset({"read"}))
    with pytest.raises(KeyInvalid):
        await recognise(RedisConnection(redis), Keys(f"{cell}-other"), text)


@pytest.mark.parametrize(
    "text",
    [
        TEXT[:-1] + "y",
        TEXT + "x",
        TEXT.upper(),
        TEXT.replace("cs_", "sc_"),
        TEXT.replace("0123abcd", "0123abce"),
        f" {TEXT}",
        f"{TEXT}\n",
        "x",
        "cs_" + "é" * 52,
    ],
)
async def test_what_is_not_the_keys_text_is_not_recognised(
    redis: Redis, cell: str, text: str
) -> None:
    await create_key(redis, cell=cell, projects=PROJECTS, roles=frozenset({"read"}), text=TEXT)
    with pytest.raises(KeyInvalid) as refusal:
        await recognise(RedisConnection(redis), Keys(cell), text)
    assert not refusal.value.missing


async def test_no_text_at_all_is_told_apart(redis: Redis, cell: str) -> None:
    with pytest.raises(KeyInvalid) as refusal:
        await recognise(RedisConnection(redis), Keys(cell), "")
    assert refusal.value.missing


@pytest.mark.parametrize(
    ("projects", "roles", "text"),
    [
        (frozenset[str](), frozenset({"read"}), None),
        (PROJECTS, frozenset[str](), None),
        (PROJECTS, frozenset({"rule"}), None),
        (frozenset({"a b"}), frozenset({"read"}), None),
        (frozenset({"a/b"}), frozenset({"read"}), None),
        (frozenset({"x" * 65}), frozenset({"read"}), None),
        (PROJECTS, frozenset({"read"}), "cs_short_text"),
    ],
)
async def test_a_key_that_could_not_be_used_is_refused(
    redis: Redis, cell: str, projects: frozenset[str], roles: frozenset[str], text: str | None
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each has a sentence of its own
        await create_key(redis, cell=cell, projects=projects, roles=roles, text=text)
    assert await list_keys(redis, cell=cell) == []
