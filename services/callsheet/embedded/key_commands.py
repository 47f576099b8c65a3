"""`callsheetd keys`: API keys, shown to the person who runs the plane."""

import json
from collections.abc import Iterable

from callsheet.embedded.redis_access import ledger_redis
from callsheet.ledger.keys import KeyRecord, create_key, list_keys, revoke_key
from callsheet.runtime.settings import Settings


class CommandRefused(Exception):
    """The command cannot do what it was asked, for the reason given."""


async def keys_create(
    settings: Settings, *, projects: Iterable[str], roles: Iterable[str], as_json: bool
) -> None:
    """Make a key and print its text, which is kept nowhere."""
    async with ledger_redis(settings) as redis:
        try:
            record, text = await create_key(
                redis, cell=settings.cell, projects=frozenset(projects), roles=frozenset(roles)
            )
        except ValueError as error:
            raise CommandRefused(str(error)) from error
    if as_json:
        print(json.dumps({**_shown(record), "key": text}))
    else:
        print(text)
        print("This text is shown once and kept nowhere: write it down now.")


async def keys_list(settings: Settings, *, as_json: bool) -> None:
    """Print what is kept of every key, oldest first: never a text."""
    async with ledger_redis(settings) as redis:
        records = await list_keys(redis, cell=settings.cell)
    if as_json:
        print(json.dumps([_shown(record) for record in records]))
        return
    for record in records:
        shown = _shown(record)
        roles, projects = ",".join(shown["roles"]), ",".join(shown["projects"])
        print(f"{record.key_id}  {shown['create_time']}  {roles}  {projects}")


async def keys_revoke(settings: Settings, *, key_id: str, as_json: bool) -> None:
    """Make a key invalid from now on. Raises CommandRefused when there is none of that id."""
    async with ledger_redis(settings) as redis:
        if not await revoke_key(redis, cell=settings.cell, key_id=key_id):
            raise CommandRefused(f"there is no key {key_id}")
    print(json.dumps({"key_id": key_id, "revoked": True}) if as_json else f"revoked {key_id}")


def _shown(record: KeyRecord) -> dict[str, str | list[str]]:
    return {
        "key_id": record.key_id,
        "projects": sorted(record.projects),
        "roles": sorted(role.value for role in record.roles),
        "create_time": record.create_time.isoformat(timespec="seconds"),
    }
