"""Where conversations are kept: Redis in the role of sessions."""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final, NamedTuple, cast

from callsheet.gateway.conversations.model import MOST_BYTES, MOST_TURNS, Conversation, Turn
from callsheet.gateway.conversations.scripts import (
    APPEND,
    CREATE,
    DELETE,
    FIND,
    STATES,
    USE,
    Keys,
)
from callsheet.gateway.side_redis import SideRedis

_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Fields = Mapping[str, str]


class Listed(NamedTuple):
    """A page of a project's conversations."""

    conversations: list[Conversation]
    #: What asks for the next page. Empty: there is none.
    next_page_token: str


class ConversationStore:
    """Every method raises SideRedisAway when Redis is."""

    def __init__(self, redis: SideRedis, *, cell: str) -> None:
        self._redis = redis
        self._keys = Keys(cell)

    async def create(
        self, project: str, *, metadata: Mapping[str, str], time_to_live: timedelta, most: int
    ) -> Conversation | None:
        """Begin a conversation; None: the project has *most* already."""
        await self._redis.check_space()
        id_ = secrets.token_urlsafe(16)
        milliseconds = time_to_live // _MILLISECOND
        now = await self._redis.run(
            CREATE,
            self._keys.all_of(id_, project),
            id_,
            project,
            json.dumps(dict(metadata)),
            milliseconds,
            most,
        )
        if not now:
            return None
        created = _instant(cast("bytes", now))
        return Conversation(
            id=id_,
            project=project,
            metadata=metadata,
            time_to_live=time_to_live,
            create_time=created,
            update_time=created,
            expire_time=created + time_to_live,
            sequence=0,
            first_sequence=1,
        )

    async def use(self, id_: str, projects: Sequence[str]) -> Conversation | None:
        """Return a conversation of one of the projects, and keep it longer; None: there is none."""
        project = await self._redis.command("HGET", self._keys.state(id_), "project")
        if project is None or cast("bytes", project).decode() not in projects:
            return None
        ending = self._keys.ending(cast("bytes", project).decode())
        keys = [self._keys.state(id_), self._keys.turns(id_), self._keys.ids(id_), ending]
        reply = await self._redis.run(USE, keys, id_)
        if not reply:
            return None
        now, kept, state = cast("tuple[bytes, int, list[bytes]]", reply)
        fields = _fields(state)
        expires = _instant(now) + int(fields["ttl"]) * _MILLISECOND
        return _conversation(id_, fields, kept=kept, expires=expires)

    async def append(
        self, conversation: Conversation, *, speaker: str, content: str, id_: str, metadata: _Fields
    ) -> Turn | None:
        """Append a turn; said again with the id of one that is kept, it is that one.

        None: the conversation is forgotten.
        """
        await self._redis.check_space()
        said = {"speaker": speaker, "content": content, "id": id_, "metadata": dict(metadata)}
        reply = await self._redis.run(
            APPEND,
            self._keys.all_of(conversation.id, conversation.project),
            conversation.id,
            json.dumps(said, ensure_ascii=False),
            id_,
            MOST_TURNS,
            MOST_BYTES,
        )
        if not reply:
            return None
        return _turn(cast("list[bytes]", reply)[1])

    async def turns(self, id_: str, *, newest: int) -> list[Turn]:
        """Return the newest turns, oldest first."""
        if newest <= 0:
            return []
        reply = await self._redis.command("LRANGE", self._keys.turns(id_), -newest, -1)
        return [_turn(content) for content in cast("list[bytes]", reply)]

    async def list(self, project: str, *, page_size: int, page_token: str) -> Listed:
        """Return conversations of a project, the one with the newest turn first."""
        behind = f"({page_token}" if page_token else "+inf"
        reply = await self._redis.run(FIND, [self._keys.recent(project)], behind, page_size)
        found = [each.decode() for each in cast("list[bytes]", reply)]
        ids, scores = found[::2], found[1::2]
        if not ids:
            return Listed([], "")
        keys = chain.from_iterable((self._keys.state(id_), self._keys.turns(id_)) for id_ in ids)
        states = await self._redis.run(STATES, list(keys))
        now, told = cast("tuple[bytes, list[tuple[int, list[bytes], int]]]", states)
        conversations = [
            _conversation(
                id_, _fields(state), kept=kept, expires=_instant(now) + left * _MILLISECOND
            )
            for id_, (kept, state, left) in zip(ids, told, strict=True)
            if state
        ]
        return Listed(conversations, scores[-1] if len(ids) == page_size else "")

    async def delete(self, conversation: Conversation) -> bool:
        """Forget a conversation; False: it was forgotten already."""
        keys = self._keys.all_of(conversation.id, conversation.project)
        return await self._redis.run(DELETE, keys, conversation.id) == 1


def _conversation(id_: str, fields: _Fields, *, kept: int, expires: datetime) -> Conversation:
    sequence = int(fields["sequence"])
    return Conversation(
        id=id_,
        project=fields["project"],
        metadata=json.loads(fields["metadata"]),
        time_to_live=int(fields["ttl"]) * _MILLISECOND,
        create_time=_instant(fields["create"]),
        update_time=_instant(fields["update"]),
        expire_time=expires,
        sequence=sequence,
        first_sequence=sequence - kept + 1,
    )


def _turn(content: bytes) -> Turn:
    sequence, time, said = content.split(b"\n", 2)
    fields = json.loads(said)
    return Turn(
        sequence=int(sequence),
        speaker=fields["speaker"],
        content=fields["content"],
        create_time=_instant(time),
        id=fields["id"],
        metadata=fields["metadata"],
    )


def _fields(flat: Sequence[bytes]) -> _Fields:
    texts = [each.decode() for each in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _instant(microseconds: bytes | str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))
