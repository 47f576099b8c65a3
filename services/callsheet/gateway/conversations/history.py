"""The turns of conversations read lately, kept in this process."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from callsheet.gateway.conversations.model import MOST_TURNS, Conversation, Turn
from callsheet.gateway.conversations.store import ConversationStore

#: Conversations remembered, and characters of them; whichever was read longest ago goes first.
REMEMBERED: Final = 512
CHARACTERS: Final = 32 * 2**20


class Read(NamedTuple):
    """A conversation as it was when it was read last."""

    conversation: Conversation
    turns: tuple[Turn, ...]


class History:
    """Reads from Redis only what was said since it read last."""

    def __init__(self, store: ConversationStore, *, characters: int = CHARACTERS) -> None:
        self._store = store
        self._most = characters
        self._read: OrderedDict[str, Read] = OrderedDict()
        self._characters = 0

    async def of(self, conversation: Conversation) -> tuple[Turn, ...]:
        """Return the turns that are kept, oldest first. Raises SideRedisAway."""
        known = self._read.get(conversation.id)
        seen = known.conversation.sequence if known is not None else 0
        first = conversation.first_sequence
        before = known.turns if known is not None else ()
        new = await self._store.turns(
            conversation.id, newest=conversation.sequence - max(seen, first - 1)
        )
        found = _joined(before, new, first=first)
        if found is None:
            # Somebody said something between the two looks: what was read begins too late.
            everything = await self._store.turns(conversation.id, newest=MOST_TURNS)
            found = _joined((), everything, first=0) or ()
        self._remember(Read(conversation, found))
        return found

    def remembered(self, id_: str) -> Read | None:
        """Return the conversation as it was read last; None: it was not."""
        return self._read.get(id_)

    def forget(self, id_: str) -> None:
        """Forget a conversation: it is no more."""
        read = self._read.pop(id_, None)
        if read is not None:
            self._characters -= _size(read)

    def _remember(self, read: Read) -> None:
        self.forget(read.conversation.id)
        self._read[read.conversation.id] = read
        self._characters += _size(read)
        while len(self._read) > REMEMBERED or (
            self._characters > self._most and len(self._read) > 1
        ):
            self.forget(next(iter(self._read)))


def _joined(before: Sequence[Turn], new: Sequence[Turn], *, first: int) -> tuple[Turn, ...] | None:
    """Return the turns from a sequence on, each once; None: one is missing in between."""
    turns = {turn.sequence: turn for turn in (*before, *new) if turn.sequence >= first}
    found = tuple(turns[sequence] for sequence in sorted(turns))
    complete = not found or found[-1].sequence - found[0].sequence + 1 == len(found)
    return found if complete else None


def _size(read: Read) -> int:
    return sum(len(turn.content) for turn in read.turns)
