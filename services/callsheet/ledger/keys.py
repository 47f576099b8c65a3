"""API keys: made, listed, revoked, and recognised. Only their digests are kept."""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Final, cast

from redis.asyncio import Redis

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import KeyInvalid
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.redis_connection import RedisConnection

_TEXT: Final = re.compile(r"cs_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_PROJECT: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key."""

    key_id: str
    projects: frozenset[str]
    roles: frozenset[Role]
    digest: str
    create_time: datetime

    @property
    def principal(self) -> Principal:
        """Whoever the key stands for."""
        return Principal(self.key_id, self.projects, self.roles)


async def create_key(
    redis: Redis,
    *,
    cell: str,
    projects: frozenset[str],
    roles: frozenset[str],
    text: str | None = None,
) -> tuple[KeyRecord, str]:
    """Make a key, or register the given text as one; return its record and its text.

    The text is shown here once and kept nowhere.

    Raises:
        ValueError: a project's name, a role or the text is not well formed.
    """
    for project in projects:
        if not _PROJECT.fullmatch(project):
            raise ValueError(f"{project!r} cannot be a project's name")
    if not projects or not roles:
        raise ValueError("a key needs at least one project and one role")
    text = text or f"cs_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("the text is not that of a key: cs_<8 hex digits>_<43 characters>")
    connection = RedisConnection(redis)
    seconds, micros = cast("tuple[int, int]", await connection.command("TIME"))
    record = KeyRecord(
        key_id=match[1],
        projects=projects,
        roles=frozenset(Role(role) for role in roles),
        digest=_digest(text),
        create_time=instant(seconds * 1_000_000 + micros),
    )
    await connection.command("HSET", Keys(cell).api_keys, record.key_id, _encode(record))
    return record, text


async def list_keys(redis: Redis, *, cell: str) -> list[KeyRecord]:
    """Return what is kept of every key, oldest first."""
    reply = await RedisConnection(redis).command("HVALS", Keys(cell).api_keys)
    records = [read_key(content) for content in cast("list[bytes]", reply)]
    return sorted(records, key=lambda record: record.create_time)


async def revoke_key(redis: Redis, *, cell: str, key_id: str) -> bool:
    """Make a key invalid; False: there is none of that id."""
    return await RedisConnection(redis).command("HDEL", Keys(cell).api_keys, key_id) == 1


async def recognise(connection: RedisConnection, keys: Keys, text: str) -> Principal:
    """Return whoever a key's text stands for.

    Raises:
        KeyInvalid: the text is empty, malformed, unknown or revoked.
    """
    content = await connection.command("HGET", keys.api_keys, key_id_of(text))
    return principal_of(cast("bytes | None", content), text)


def key_id_of(text: str) -> str:
    """Return the id that a key's text begins with. Raises KeyInvalid when it is no key's text."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise KeyInvalid(missing=not text)
    return match[1]


def principal_of(content: bytes | None, text: str) -> Principal:
    """Return whoever a key's text stands for, by what is kept of its id. Raises KeyInvalid."""
    if content is None:
        raise KeyInvalid
    record = read_key(content)
    if not compare_digest(record.digest, _digest(text)):
        raise KeyInvalid
    return record.principal


def _digest(text: str) -> str:
    # The secret has 256 random bits: a plain digest cannot be guessed back.
    return sha256(text.encode()).hexdigest()


def _encode(record: KeyRecord) -> str:
    return json.dumps(
        {
            "version": 1,
            "key_id": record.key_id,
            "projects": sorted(record.projects),
            "roles": sorted(role.value for role in record.roles),
            "digest": record.digest,
            "create_time": record.create_time.isoformat(),
        }
    )


def read_key(content: bytes) -> KeyRecord:
    """Return what is kept of a key."""
    fields = cast("Mapping[str, object]", json.loads(content))
    return KeyRecord(
        key_id=str(fields["key_id"]),
        projects=frozenset(cast("list[str]", fields["projects"])),
        roles=frozenset(Role(role) for role in cast("list[str]", fields["roles"])),
        digest=str(fields["digest"]),
        create_time=datetime.fromisoformat(str(fields["create_time"])),
    )
