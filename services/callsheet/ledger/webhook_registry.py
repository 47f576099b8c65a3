"""What the people who run the plane decide about webhooks: secrets, keys of receivers, endpoints.

Small, and read whole. A version grows with each change of what signatures and headers are made of;
every claim of deliveries answers it, so that each sidecar notices with its next one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, cast

from callsheet.ledger.delivery_model import Disabled, disabled_field, endpoint_of
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.redis_connection import RedisConnection

#: The version of a project's secret when none was ever rotated.
FIRST_SECRET: Final = 1

# Changes one field, and the version with it.
#
# KEYS      version, a hash
# ARGV      field, value as it must be before ('' = there is none, '*' = any), new one ('' = remove)
# Returns   1; or 0 when it was another: nothing was changed
_CHANGE: Final = r"""#!lua flags=allow-oom
local before = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if ARGV[2] ~= '*' and before ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
else
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
end
redis.call('INCR', KEYS[1])
return 1
"""

# Enables an endpoint of a project.
#
# KEYS      disabled, the project's disabled endpoints
# ARGV      the endpoint's disabled field, endpoint
# Returns   1; or 0 when it was not disabled
_ENABLE: Final = r"""#!lua flags=allow-oom
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('HDEL', KEYS[1], ARGV[1])
"""

# Reads all that sidecars need, as of one moment.
#
# KEYS      version, secrets, origins
# Returns   {version or '', secrets' fields, origins' fields}
_READ: Final = r"""
return {redis.call('GET', KEYS[1]) or '',
        redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}
"""


class SecretNotRotating(Exception):
    """There is no rotation to finish, or one that must be finished first."""

    def __init__(self, project: str, *, rotating: bool) -> None:
        state = "is being rotated already: finish that first" if rotating else "is not rotated now"
        super().__init__(f"the webhook secret of {project} {state}")
        self.project = project


@dataclass(frozen=True, slots=True)
class RegisteredOrigin:
    """A receiver that gets an API key: whose, for which project, since when.

    *sealed_key* can be opened by whoever has the master key alone.
    """

    project: str
    origin: str
    sealed_key: str
    create_time: datetime


class Snapshot(NamedTuple):
    """The registry as of one version."""

    version: int
    #: By project, the newest first; what is left out has FIRST_SECRET alone.
    secret_versions: Mapping[str, tuple[int, ...]]
    origins: tuple[RegisteredOrigin, ...]


class DisabledEndpoint(NamedTuple):
    """An endpoint that answered 410, of one project."""

    project: str
    disabled: Disabled


class OpenCircuit(NamedTuple):
    """A line whose circuit has seen failures; *retry_time* is when it is tried, if it is open."""

    line: str
    failures: int
    retry_time: datetime | None


class WebhookRegistry:
    """Keeps the registry of a cell. Every method may raise LedgerUnavailable."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def read(self) -> Snapshot:
        """Return all that signatures and headers are made of."""
        keys = self._keys
        places = [keys.webhook_version, keys.webhook_secrets, keys.webhook_origins]
        reply = await self._connection.script(_READ, places, [])
        version, secrets, origins = cast("tuple[bytes, list[bytes], list[bytes]]", reply)
        return Snapshot(
            int(version or 0),
            {project: _versions(content) for project, content in _pairs(secrets)},
            tuple(_origin(field, content) for field, content in _pairs(origins)),
        )

    async def secret_versions(self, project: str) -> tuple[int, ...]:
        """Return the versions that sign the project's webhooks, the newest first."""
        found = await self._connection.command("HGET", self._keys.webhook_secrets, project)
        return (FIRST_SECRET,) if found is None else _versions(cast("bytes", found).decode())

    async def rotate_secret(self, project: str) -> tuple[int, ...]:
        """Add the next version, beside which the one before goes on signing; return both.

        Raises:
            SecretNotRotating: the last rotation is not finished.
        """
        before = await self.secret_versions(project)
        if len(before) > 1:
            raise SecretNotRotating(project, rotating=True)
        newest = max(before)
        return await self._set_versions(project, before, (newest + 1, newest))

    async def finish_rotation(self, project: str) -> tuple[int, ...]:
        """Let the older version go; return what is left.

        Raises:
            SecretNotRotating: there are not two.
        """
        before = await self.secret_versions(project)
        if len(before) == 1:
            raise SecretNotRotating(project, rotating=False)
        return await self._set_versions(project, before, (max(before),))

    async def add_origin(self, project: str, origin: str, *, sealed_key: str) -> RegisteredOrigin:
        """Have the key sent to the origin with the project's webhooks, in place of one before."""
        seconds, micros = cast("tuple[int, int]", await self._connection.command("TIME"))
        added = RegisteredOrigin(project, origin, sealed_key, instant(1_000_000 * seconds + micros))
        await self._change(
            self._keys.webhook_origins, f"{project}/{origin}", before="*", after=_encode(added)
        )
        return added

    async def remove_origin(self, project: str, origin: str) -> bool:
        """Send the origin no key any more; False: it got none."""
        field = f"{project}/{origin}"
        return await self._change(self._keys.webhook_origins, field, before="*", after="")

    async def disabled(self) -> list[DisabledEndpoint]:
        """Return the endpoints that take nothing any more, by project and URL."""
        reply = await self._connection.command("HGETALL", self._keys.delivery_disabled)
        found = [
            DisabledEndpoint(field.decode().partition("/")[0], Disabled.parse(content))
            for field, content in cast("dict[bytes, bytes]", reply).items()
        ]
        return sorted(found, key=lambda each: (each.project, each.disabled.url))

    async def enable(self, project: str, url: str) -> bool:
        """Deliver to the project's endpoint again; False: it was not disabled."""
        endpoint = endpoint_of(url)
        places = [self._keys.delivery_disabled, self._keys.disabled_endpoints(project)]
        arguments = [disabled_field(project, endpoint), endpoint]
        return await self._connection.number(_ENABLE, places, arguments) == 1

    async def circuits(self) -> list[OpenCircuit]:
        """Return the lines that failed lately, by name."""
        reply = await self._connection.command("HGETALL", self._keys.delivery_circuits)
        found: list[OpenCircuit] = []
        for line, content in cast("dict[bytes, bytes]", reply).items():
            failures, retry_time = (int(word) for word in content.split(b" ")[:2])
            retry = instant(retry_time) if retry_time else None
            found.append(OpenCircuit(line.decode(), failures, retry))
        return sorted(found)

    async def _set_versions(
        self, project: str, before: tuple[int, ...], after: tuple[int, ...]
    ) -> tuple[int, ...]:
        was = " ".join(map(str, before))
        words = [was, ""] if before == (FIRST_SECRET,) else [was]
        for word in words:
            if await self._change(
                self._keys.webhook_secrets, project, before=word, after=" ".join(map(str, after))
            ):
                return after
        raise SecretNotRotating(project, rotating=len(after) > 1)

    async def _change(self, key: str, field: str, *, before: str, after: str) -> bool:
        places = [self._keys.webhook_version, key]
        return await self._connection.number(_CHANGE, places, [field, before, after]) == 1


def _versions(content: str) -> tuple[int, ...]:
    return tuple(int(word) for word in content.split())


def _pairs(words: list[bytes]) -> list[tuple[str, str]]:
    texts = [word.decode() for word in words]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _encode(origin: RegisteredOrigin) -> str:
    kept = {"key": origin.sealed_key, "create_time": microseconds(origin.create_time)}
    return json.dumps(kept)


def _origin(field: str, content: str) -> RegisteredOrigin:
    project, _, origin = field.partition("/")
    kept = cast("Mapping[str, str | int]", json.loads(content))
    time = instant(int(kept["create_time"]))
    return RegisteredOrigin(project, origin, str(kept["key"]), time)
