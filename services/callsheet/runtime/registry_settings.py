"""The settings of the services around the plane, and of the addresses on which it tells of itself.

The variables of other services bear the names that their own documents give them.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode

from callsheet.runtime.setting_types import (
    DatabaseUrl,
    GivenSecret,
    HealthInterval,
    HttpUrl,
    ListenAddress,
    split_at_commas,
)


class Service(StrEnum):
    """A service of the platform, under the name that the registry has for it."""

    AUTO_MOVIE = "auto_movie"
    TASK_SERVICE = "task_service"
    BRAIN_SERVICE = "brain_service"
    ORCHESTRATOR = "orchestrator"
    STORY = "story"
    CHARACTERS = "characters"
    VISUALS = "visuals"
    AUDIO = "audio"
    ASSETS = "assets"
    PAYLOAD_API = "payload_api"
    WEBHOOKS = "webhooks"
    MEDIA_CDN = "media_cdn"
    REDIS = "redis"
    NEO4J = "neo4j"
    NEO4J_BOLT = "neo4j_bolt"
    MONGODB = "mongodb"
    PROMETHEUS = "prometheus"
    GRAFANA = "grafana"
    HEALTH = "health"
    REDIS_INSIGHT = "redis_insight"
    MONGO_EXPRESS = "mongo_express"
    DOCS = "docs"
    TEST_ENVIRONMENT = "test_environment"
    UPLOADS = "uploads"


#: Services without a variable of their own, which CALLSHEET_SERVICE_URLS may place elsewhere.
PLACED_TOGETHER: Final = frozenset(
    {
        Service.ORCHESTRATOR,
        Service.STORY,
        Service.CHARACTERS,
        Service.VISUALS,
        Service.AUDIO,
        Service.ASSETS,
        Service.NEO4J,
        Service.HEALTH,
        Service.REDIS_INSIGHT,
        Service.MONGO_EXPRESS,
        Service.DOCS,
        Service.TEST_ENVIRONMENT,
        Service.UPLOADS,
    }
)

_MOST_PAIRS: Final = 64
_WANTED: Final = "pairs of service=URL"


def _placed(pairs: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for pair in pairs:
        name, _, url = pair.partition("=")
        if name not in PLACED_TOGETHER or not url.startswith(("http://", "https://")):
            known = ", ".join(sorted(PLACED_TOGETHER))
            raise ValueError(f"must be {_WANTED}, the services being {known}")
        if name in seen or len(pairs) > _MOST_PAIRS:
            raise ValueError(f"must be {_WANTED}, each service once")
        seen.add(name)
    return pairs


_Pair = Annotated[
    str, Field(max_length=512, pattern=r"^[a-z0-9_]+=https?://[^\s/?#@,]+(/[^\s?#@,]*)?$")
]
ServiceUrls = Annotated[
    tuple[_Pair, ...], NoDecode, BeforeValidator(split_at_commas), AfterValidator(_placed)
]


class RegistrySettings(BaseSettings):
    """The part of the settings that is about who else is there, and how the plane is looked at."""

    auto_movie_app_url: HttpUrl | None = Field(
        default=None,
        validation_alias="AUTO_MOVIE_APP_URL",
        description="The Auto-Movie app; unset: as the registry of the environment has it.",
    )
    task_service_url: HttpUrl | None = Field(
        default=None,
        validation_alias="CELERY_TASK_SERVICE_URL",
        description="This plane's gateway, as others reach it; unset: as the registry has it.",
    )
    mcp_brain_service_url: HttpUrl | None = Field(
        default=None,
        validation_alias="MCP_BRAIN_SERVICE_URL",
        description="The brain's origin. BRAIN_WS_URL and BRAIN_HTTP_URL follow from it.",
    )
    brain_service_base_url: HttpUrl | None = Field(
        default=None,
        validation_alias="BRAIN_SERVICE_BASE_URL",
        description="Another name of MCP_BRAIN_SERVICE_URL.",
    )
    webhook_base_url: HttpUrl | None = Field(
        default=None,
        validation_alias="WEBHOOK_BASE_URL",
        description="Where the Auto-Movie app takes webhooks; unset: as the registry has it.",
    )
    prometheus_url: HttpUrl | None = Field(
        default=None,
        validation_alias="PROMETHEUS_URL",
        description="Prometheus; unset: as the registry has it.",
    )
    grafana_url: HttpUrl | None = Field(
        default=None,
        validation_alias="GRAFANA_URL",
        description="Grafana; unset: as the registry has it.",
    )
    neo4j_uri: DatabaseUrl | None = Field(
        default=None,
        validation_alias="NEO4J_URI",
        repr=False,
        description="The brain's graph database; unset: as the registry has it.",
    )
    mongodb_uri: DatabaseUrl | None = Field(
        default=None,
        validation_alias="MONGODB_URI",
        repr=False,
        description="PayloadCMS's database; unset: as the registry has it.",
    )
    service_urls: ServiceUrls = Field(
        default=(),
        validation_alias="CALLSHEET_SERVICE_URLS",
        description="Services without a variable of their own that are elsewhere than the "
        "registry has them, service=URL, separated by commas.",
    )
    health_address: ListenAddress = Field(
        default="127.0.0.1:8100",
        validation_alias="CALLSHEET_HEALTH_ADDRESS",
        description="Where the gateway tells of every part's health, host:port; none: nowhere.",
    )
    docs_address: ListenAddress = Field(
        default="127.0.0.1:8300",
        validation_alias="CALLSHEET_DOCS_ADDRESS",
        description="Where the gateway shows the API's documentation, host:port; none: nowhere "
        "but beside the API.",
    )
    health_key: GivenSecret | None = Field(
        default=None,
        validation_alias="CALLSHEET_HEALTH_KEY",
        description="API key of the role operate with which workers and sidecar are looked at; "
        "unset: nobody knows how they are. `up` takes the development key.",
    )
    health_interval: HealthInterval = Field(
        default=timedelta(seconds=5),
        validation_alias="CALLSHEET_HEALTH_INTERVAL_SECONDS",
        description="How often every part is looked at, 0.1 to 300 seconds.",
    )

    @model_validator(mode="after")
    def _names_one_brain(self) -> "RegistrySettings":
        named = {self.mcp_brain_service_url, self.brain_service_base_url} - {None}
        if len(named) > 1:
            raise ValueError(
                "BRAIN_SERVICE_BASE_URL: names another brain than MCP_BRAIN_SERVICE_URL"
            )
        return self
