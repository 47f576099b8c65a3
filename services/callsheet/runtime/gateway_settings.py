"""The settings of the gateway: where it listens, whom it answers, and how much it takes."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.setting_types import (
    GrpcAddress,
    MasterKey,
    Origins,
    ProxyAddresses,
    TicketDuration,
    UpToAnHour,
)


class GatewaySettings(BaseSettings):
    """The part of the settings that is about REST, Connect and the dashboard."""

    gateway_address: GrpcAddress = Field(
        default="127.0.0.1:8001",
        validation_alias="CALLSHEET_GATEWAY_ADDRESS",
        description="Where the gateway listens, host:port; port 0 lets `up` choose a free one.",
    )
    gateway_trusted_proxies: ProxyAddresses = Field(
        default=(),
        validation_alias="CALLSHEET_GATEWAY_TRUSTED_PROXIES",
        description="Addresses or networks of proxies whose X-Forwarded-For and -Proto are "
        "believed, separated by commas; unset: nobody's.",
    )
    cors_origins: Origins = Field(
        default=(),
        validation_alias="CALLSHEET_CORS_ORIGINS",
        description="Origins whose pages may call the gateway with a key, separated by commas; "
        "unset: its own alone.",
    )
    gateway_link_key: MasterKey | None = Field(
        default=None,
        validation_alias="CALLSHEET_GATEWAY_LINK_KEY",
        description="What links to artifacts are signed with, 32 characters or more, the same for "
        "all gateways; unset: in development one is made and kept in state_dir.",
    )
    gateway_link_time: UpToAnHour = Field(
        default=timedelta(minutes=15),
        validation_alias="CALLSHEET_GATEWAY_LINK_SECONDS",
        description="How long a link to an artifact opens it, 0 to 3600 seconds.",
    )
    session_time: TicketDuration = Field(
        default=timedelta(hours=12),
        validation_alias="CALLSHEET_SESSION_SECONDS",
        description="How long a sign-in of a browser lasts at most, 60 to 43200 seconds.",
    )
    session_ticket_time: TicketDuration = Field(
        default=timedelta(hours=1),
        validation_alias="CALLSHEET_SESSION_TICKET_SECONDS",
        description="How long a sign-in lasts without a request, 60 to 43200 seconds: its ticket "
        "is renewed when half of that is over.",
    )
    upload_largest_bytes: int = Field(
        default=2 * 2**30,
        ge=1,
        le=2**40,
        validation_alias="CALLSHEET_UPLOAD_LARGEST_BYTES",
        description="The largest file that can be uploaded.",
    )
    upload_daily_bytes: int = Field(
        default=50 * 2**30,
        ge=1,
        le=2**50,
        validation_alias="CALLSHEET_UPLOAD_DAILY_BYTES",
        description="Bytes that a project may upload in 24 hours and that no task refers to.",
    )
    uploads: int = Field(
        default=64,
        ge=1,
        le=1024,
        validation_alias="CALLSHEET_UPLOADS",
        description="Uploads under way at the same time in one gateway, 1 to 1024.",
    )
    uploads_per_project: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        validation_alias="CALLSHEET_UPLOADS_PER_PROJECT",
        description="Uploads of one project at the same time; unset: half of all.",
    )
    gateway_connections: int = Field(
        default=20_000,
        ge=16,
        le=1_000_000,
        validation_alias="CALLSHEET_GATEWAY_CONNECTIONS",
        description="Connections open at the same time; more are turned away.",
    )
    gateway_requests_per_second: int = Field(
        default=500,
        ge=1,
        le=1_000_000,
        validation_alias="CALLSHEET_GATEWAY_REQUESTS_PER_SECOND",
        description="Requests of one key a second, in the long run; four times as many at once.",
    )

    @property
    def uploads_of_one_project(self) -> int:
        """How many uploads of one project may be under way at the same time."""
        return self.uploads_per_project or max(1, self.uploads // 2)
