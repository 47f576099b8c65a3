"""The settings of the brain: where it is, who we are to it, and what its tools are called."""

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.setting_types import (
    AbsolutePath,
    BrainHttpUrl,
    BrainTimeLimit,
    BrainTools,
    BrainWsUrl,
    ContextBudget,
    GivenSecret,
    GrpcAddress,
)


def _http_url(values: Mapping[str, object]) -> str | None:
    """Return the brain's origin, if the environment names one: the registry alone dials nobody."""
    for name in ("mcp_brain_service_url", "brain_service_base_url"):
        if (url := values.get(name)) is not None:
            return str(url).rstrip("/")
    return None


def _ws_url(values: Mapping[str, object]) -> str | None:
    origin = _http_url(values)
    if origin is None:
        return None
    parts = urlsplit(origin)
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}/mcp"


class BrainSettings(BaseSettings):
    """The part of the settings that is about the brain."""

    brain_ws_url: BrainWsUrl | None = Field(
        default_factory=_ws_url,
        validation_alias="BRAIN_WS_URL",
        description="MCP over WebSocket of the brain, ws:// or wss://; unset: /mcp of "
        "MCP_BRAIN_SERVICE_URL, and without that there is no brain.",
    )
    brain_http_url: BrainHttpUrl | None = Field(
        default_factory=_http_url,
        validation_alias="BRAIN_HTTP_URL",
        description="Where the brain answers POST /api/v1/knowledge/query; unset: at "
        "MCP_BRAIN_SERVICE_URL, and without that nowhere.",
    )
    brain_token: GivenSecret | None = Field(
        default=None,
        validation_alias="CALLSHEET_BRAIN_TOKEN",
        description="Bearer token that the brain asks for; unset: none is sent.",
    )
    brain_ca_file: AbsolutePath | None = Field(
        default=None,
        validation_alias="CALLSHEET_BRAIN_CA_FILE",
        description="PEM file of the authorities that vouch for the brain; unset: the system's.",
    )
    brain_tools: BrainTools = Field(
        default=(),
        validation_alias="CALLSHEET_BRAIN_TOOLS",
        description="Names of the brain's tools where they differ, ours=theirs, separated by "
        "commas; `ours=` says that it has no such tool.",
    )
    brain_time_limit: BrainTimeLimit = Field(
        default=timedelta(seconds=10),
        validation_alias="CALLSHEET_BRAIN_TIME_LIMIT_SECONDS",
        description="How long one call to the brain may take, 0.05 to 300 seconds.",
    )
    context_budget: ContextBudget = Field(
        default=timedelta(milliseconds=300),
        validation_alias="CALLSHEET_CONTEXT_BUDGET_SECONDS",
        description="How long an attempt's start may wait for what the brain knows, 0.01 to 10 "
        "seconds; 0: nothing is asked.",
    )
    brain_backlog: int = Field(
        default=500_000,
        ge=1_000,
        le=100_000_000,
        validation_alias="CALLSHEET_BRAIN_BACKLOG",
        description="How many facts the log keeps for a brain that is away; the tasks behind "
        "older ones are found again when they have ended.",
    )
    brain_address: GrpcAddress = Field(
        default="127.0.0.1:8002",
        validation_alias="CALLSHEET_BRAIN_ADDRESS",
        description="Where the embedded brain listens, host:port; port 0 lets `up` choose a free "
        "one. `up` starts none when BRAIN_WS_URL is set.",
    )
    brain_tasks_kept: int = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        validation_alias="CALLSHEET_BRAIN_TASKS_KEPT",
        description="How many tasks the embedded brain remembers; past them the oldest go.",
    )
