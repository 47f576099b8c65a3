"""The settings of rooms and conversations, and of the Redis that they are kept in."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.redis_roles import CACHE_DATABASE, SESSIONS_DATABASE, role_url
from callsheet.runtime.setting_types import ConversationDuration, HeartbeatInterval, RedisUrl


class RoomsSettings(BaseSettings):
    """The part of the settings that is about rooms, conversations, and Redis beside the ledger."""

    sessions_redis_url: RedisUrl | None = Field(
        default=None,
        validation_alias="SESSIONS_REDIS_URL",
        repr=False,
        description="Redis of conversations and rooms; unset: database 1 of the ledger's server.",
    )
    cache_redis_url: RedisUrl | None = Field(
        default=None,
        validation_alias="CACHE_REDIS_URL",
        repr=False,
        description="Redis of what can be made again; unset: database 2 of the ledger's server.",
    )
    rooms_connections: int = Field(
        default=12_000,
        ge=1,
        le=1_000_000,
        validation_alias="CALLSHEET_ROOMS_CONNECTIONS",
        description="WebSockets open at the same time in one gateway; more are turned away.",
    )
    rooms_connections_per_key: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        validation_alias="CALLSHEET_ROOMS_CONNECTIONS_PER_KEY",
        description="WebSockets of one key open at the same time in one gateway.",
    )
    rooms_tasks: int = Field(
        default=512,
        ge=1,
        le=900,
        validation_alias="CALLSHEET_ROOMS_TASKS",
        description="Tasks that the rooms of one gateway follow at the same time, 1 to 900.",
    )
    rooms_messages_per_second: int = Field(
        default=20,
        ge=1,
        le=10_000,
        validation_alias="CALLSHEET_ROOMS_MESSAGES_PER_SECOND",
        description="Messages of one WebSocket a second, in the long run; four times at once.",
    )
    rooms_heartbeat: HeartbeatInterval = Field(
        default=timedelta(seconds=30),
        validation_alias="CALLSHEET_ROOMS_HEARTBEAT_SECONDS",
        description="How often a WebSocket is asked for a sign of life, 1 to 300 seconds; silent "
        "for three times as long, it is closed.",
    )
    conversation_time: ConversationDuration = Field(
        default=timedelta(days=1),
        validation_alias="CALLSHEET_CONVERSATION_SECONDS",
        description="How long a conversation is kept after its last message, unless it says "
        "otherwise, 60 to 2592000 seconds.",
    )
    conversations_per_project: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        validation_alias="CALLSHEET_CONVERSATIONS_PER_PROJECT",
        description="Conversations of one project at the same time.",
    )

    def sessions_redis(self, ledger: str | None) -> str | None:
        """Return the URL of conversations and rooms, beside the ledger's. None: nobody told any."""
        return role_url(self.sessions_redis_url, ledger=ledger, database=SESSIONS_DATABASE)

    def cache_redis(self, ledger: str | None) -> str | None:
        """Return the URL of the cache, beside the ledger's. None: nobody told any."""
        return role_url(self.cache_redis_url, ledger=ledger, database=CACHE_DATABASE)
