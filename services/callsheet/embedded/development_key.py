"""The development key: made once, kept in the state folder, known to whichever Redis is used."""

from typing import Final

from redis.asyncio import Redis

from callsheet.ledger.access import Role
from callsheet.ledger.keys import create_key, list_keys
from callsheet.runtime.secrets import keep_secret, read_secret
from callsheet.runtime.settings import Settings

DEVELOPMENT_KEY_FILE: Final = "development.key"
DEVELOPMENT_PROJECTS: Final = ("default", "test_project")


async def development_key(settings: Settings, redis: Redis) -> str | None:
    """Return the text of the development key, valid for every role in both projects.

    None outside development. A Redis that was emptied since gets the same key again. Raises
    callsheet.runtime.secrets.SecretUnusable when the file was opened to others or holds no key.
    """
    if settings.environment != "development":
        return None
    path = settings.state_dir / DEVELOPMENT_KEY_FILE
    known = read_secret(path) if path.exists() else None
    if known is not None:
        registered = {record.key_id for record in await list_keys(redis, cell=settings.cell)}
        if _key_id(known) in registered:
            return known
    _, text = await create_key(
        redis,
        cell=settings.cell,
        projects=frozenset(DEVELOPMENT_PROJECTS),
        roles=frozenset(role.value for role in Role),
        text=known,
    )
    keep_secret(path, text)
    return text


def _key_id(text: str) -> str:
    return text.split("_", 2)[1] if text.count("_") > 1 else ""
