"""Answers to queries, kept in the cache until something new is said in their conversation."""

import json
from datetime import timedelta
from hashlib import sha256
from typing import Final, NamedTuple, cast

from callsheet.gateway.conversations.model import Conversation
from callsheet.gateway.side_redis import Script, SideRedis, SideRedisAway

#: How long an answer is kept, at most.
KEPT: Final = timedelta(hours=1)
#: Answers kept of one conversation; one more, and all the others go.
MOST_ANSWERS: Final = 32

_MILLISECOND: Final = timedelta(milliseconds=1)

# Keeps an answer; those to what the conversation was before go.
#
# KEYS      answers   HASH sequence, digest of a query → answer
# ARGV      sequence of the conversation, digest, answer, time to live in milliseconds, most answers
# Returns   1; 0 when answers of a later sequence are kept already
_KEEP: Final = Script(r"""
local kept = tonumber(redis.call('HGET', KEYS[1], 'sequence') or -1)
local sequence = tonumber(ARGV[1])
if kept > sequence then return 0 end
if kept < sequence or redis.call('HLEN', KEYS[1]) > tonumber(ARGV[5]) then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'sequence', sequence)
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")


class Found(NamedTuple):
    """What the cache says to a query."""

    #: None: it knows no answer.
    answer: str | None
    #: Whether it could be asked.
    asked: bool


class Answers:
    """An answer counts for one query, word for word, and one state of one conversation."""

    def __init__(self, cache: SideRedis, *, cell: str) -> None:
        self._cache = cache
        self._prefix = f"callsheet:{{{cell}}}:cache:answers:"

    async def find(self, conversation: Conversation, query: str) -> Found:
        """Return the answer that was kept since the last turn. A cache that is away knows none."""
        words = ("HMGET", self._key(conversation), "sequence", _digest(query))
        try:
            reply = await self._cache.command(*words)
        except SideRedisAway:
            return Found(None, asked=False)
        sequence, answer = cast("tuple[bytes | None, bytes | None]", reply)
        if sequence is None or answer is None or int(sequence) != conversation.sequence:
            return Found(None, asked=True)
        return Found(cast("str", json.loads(answer)), asked=True)

    async def keep(self, conversation: Conversation, query: str, answer: str) -> bool:
        """Keep an answer; False: the cache is away or full, or knows of later turns."""
        longest = min(KEPT, conversation.time_to_live)
        try:
            await self._cache.check_space()
            reply = await self._cache.run(
                _KEEP,
                [self._key(conversation)],
                conversation.sequence,
                _digest(query),
                json.dumps(answer),
                longest // _MILLISECOND,
                MOST_ANSWERS,
            )
        except SideRedisAway:
            return False
        return reply == 1

    async def forget(self, conversation: Conversation) -> None:
        """Forget the answers of a conversation; a cache that is away forgets them by itself."""
        try:
            await self._cache.command("DEL", self._key(conversation))
        except SideRedisAway:
            return

    def _key(self, conversation: Conversation) -> str:
        return self._prefix + conversation.id


def _digest(query: str) -> str:
    return sha256(query.encode()).hexdigest()
