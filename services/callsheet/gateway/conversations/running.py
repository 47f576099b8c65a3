"""Puts conversations together from the settings."""

from callsheet.gateway.conversations.answers import Answers
from callsheet.gateway.conversations.routes import Conversations
from callsheet.gateway.conversations.store import ConversationStore
from callsheet.gateway.plane import Plane
from callsheet.gateway.side_redis import SideRedis
from callsheet.runtime.settings import Settings


def conversations(
    settings: Settings, plane: Plane, sessions: SideRedis, cache: SideRedis
) -> Conversations:
    """Return the routes of conversations; they serve as well as the two servers allow."""
    return Conversations(
        plane,
        ConversationStore(sessions, cell=settings.cell),
        Answers(cache, cell=settings.cell),
        time_to_live=settings.conversation_time,
        most=settings.conversations_per_project,
    )
