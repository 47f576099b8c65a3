"""All that a cell keeps, entry by entry: what has to be the same before and after a refusal."""

from typing import Any, Final, cast

from redis.asyncio import Redis

#: A key, and the text of one of its entries.
Entry = tuple[str, str]

_READS: Final[dict[str, tuple[str, ...]]] = {
    "hash": ("HGETALL", "{key}"),
    "list": ("LRANGE", "{key}", "0", "-1"),
    "set": ("SMEMBERS", "{key}"),
    "stream": ("XRANGE", "{key}", "-", "+"),
    "string": ("GET", "{key}"),
    "zset": ("ZRANGE", "{key}", "0", "-1", "WITHSCORES"),
}


async def snapshot(redis: Redis, prefix: str) -> frozenset[Entry]:
    """Return every entry of every key with the prefix, and when the key expires."""
    commands = cast("Any", redis)  # redis-py leaves its commands' options untyped
    keys = cast("list[bytes]", await commands.execute_command("KEYS", f"{prefix}*"))
    types = await _all(commands, [("TYPE", key) for key in keys])
    expiries = await _all(commands, [("PEXPIRETIME", key) for key in keys])
    reads = [
        tuple(key if word == "{key}" else word for word in _READS[kind.decode()])
        for key, kind in zip(keys, types, strict=True)
    ]
    found: set[Entry] = set()
    for key, expiry, value in zip(keys, expiries, await _all(commands, reads), strict=True):
        name = key.decode()
        found.add((name, f"expires {expiry}"))
        found |= {(name, entry) for entry in _entries(value)}
    return frozenset(found)


def concerning(entries: frozenset[Entry], marks: list[str]) -> frozenset[Entry]:
    """Return the entries that name one of the marks, in their key or in what they hold."""
    return frozenset(
        (key, entry)
        for key, entry in entries
        if any(mark in key or mark in entry for mark in marks)
    )


async def _all(commands: Any, wanted: list[tuple[Any, ...]]) -> list[Any]:  # noqa: ANN401  # see above
    pipeline = commands.pipeline(transaction=False)
    for command in wanted:
        pipeline.execute_command(*command)
    return cast("list[Any]", await pipeline.execute())


def _entries(value: object) -> list[str]:
    match value:
        case dict():
            return [repr(pair) for pair in cast("dict[bytes, object]", value).items()]
        case list():
            # Without places: what somebody else adds moves them.
            listed = [repr(each) for each in cast("list[object]", value)]
            return [f"length {len(listed)}", *listed]
        case set():
            return [repr(each) for each in cast("set[bytes]", value)]
        case _:
            return [repr(value)]
