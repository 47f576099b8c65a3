"""The service registry: where each service of the platform is, in each environment.

A registry names services, it dials none: the plane talks to a service only when a variable names
it. Such a variable always wins over the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from callsheet.runtime.registry_settings import PLACED_TOGETHER, Service
from callsheet.runtime.settings import Settings, variable_of, without_password

Environment = Literal["development", "staging", "production"]

#: Where a URL comes from: the environment's variables, another URL, the table; or there is none.
UrlSource = Literal["environment", "derived", "registry", "unset"]

DOMAINS: Final[Mapping[Environment, str]] = MappingProxyType(
    {"staging": "ngrok.pro", "production": "ft.tc"}
)

_HERE: Final = "http://localhost"


@dataclass(frozen=True, slots=True)
class _Place:
    """A service as the table has it."""

    purpose: str
    #: In development.
    local: str | None
    #: The name before the environment's domain; None: it is reached in development alone.
    host: str | None = None
    #: The setting that says where it is otherwise.
    setting: str | None = None


_S = Service
#: Those under another service are derived from it, and the CDN is of production alone.
_TABLE: Final[Mapping[Service, _Place]] = MappingProxyType(
    {
        _S.AUTO_MOVIE: _Place(
            "web application and PayloadCMS", f"{_HERE}:3010", "auto-movie", "auto_movie_app_url"
        ),
        _S.TASK_SERVICE: _Place("this plane", f"{_HERE}:8001", "tasks", "task_service_url"),
        _S.BRAIN_SERVICE: _Place(
            "knowledge graph and embeddings", f"{_HERE}:8002", "brain", "mcp_brain_service_url"
        ),
        _S.ORCHESTRATOR: _Place("LangGraph orchestrator", f"{_HERE}:8003", "agents"),
        _S.STORY: _Place("story MCP server", f"{_HERE}:8010", "story"),
        _S.CHARACTERS: _Place("character MCP server", f"{_HERE}:8011", "characters"),
        _S.VISUALS: _Place("visual MCP server", f"{_HERE}:8012", "visuals"),
        _S.AUDIO: _Place("audio MCP server", f"{_HERE}:8013", "audio"),
        _S.ASSETS: _Place("asset MCP server", f"{_HERE}:8014", "assets"),
        _S.PAYLOAD_API: _Place("REST API of PayloadCMS", None, setting="payload_api_url"),
        _S.WEBHOOKS: _Place("where it takes webhooks", None, setting="webhook_base_url"),
        _S.MEDIA_CDN: _Place(
            "what artifacts' URLs start with", None, setting="artifacts_public_url"
        ),
        _S.REDIS: _Place("ledger", "redis://localhost:6379/0", setting="redis_url"),
        _S.NEO4J: _Place("the brain's graph, in a browser", f"{_HERE}:7474", "neo4j"),
        _S.NEO4J_BOLT: _Place(
            "the brain's graph, for programs", "bolt://localhost:7687", setting="neo4j_uri"
        ),
        _S.MONGODB: _Place(
            "PayloadCMS's database", "mongodb://localhost:27017/auto-movie", setting="mongodb_uri"
        ),
        _S.PROMETHEUS: _Place("metrics", f"{_HERE}:9090", "metrics", "prometheus_url"),
        _S.GRAFANA: _Place("dashboards of metrics", f"{_HERE}:3001", "dashboard", "grafana_url"),
        _S.HEALTH: _Place("health of every part", f"{_HERE}:8100", "health"),
        _S.REDIS_INSIGHT: _Place("Redis in a browser", f"{_HERE}:8101", "redis"),
        _S.MONGO_EXPRESS: _Place("MongoDB in a browser", f"{_HERE}:8102", "mongo"),
        _S.DOCS: _Place("documentation of the API", f"{_HERE}:8300", "app-docs"),
        _S.TEST_ENVIRONMENT: _Place("the web application's tests", f"{_HERE}:3011", "app-test"),
        _S.UPLOADS: _Place("direct uploads", f"{_HERE}:8200", "uploads"),
    }
)

#: Services that live below the web application, unless they are named themselves.
_BELOW_AUTO_MOVIE: Final[Mapping[Service, str]] = MappingProxyType(
    {_S.PAYLOAD_API: "/api", _S.WEBHOOKS: "/api/webhooks"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntry:
    """Where a service is; *url* is None where the environment has none."""

    service: Service
    url: str | None
    source: UrlSource
    #: What says where it is.
    variable: str
    #: Whether the plane talks to it, or is it, as it is set up now.
    is_used: bool
    purpose: str

    @property
    def shown(self) -> str:
        """The URL for people: without a password; "unset" when there is none."""
        return "unset" if self.url is None else without_password(self.url)


def service_registry(settings: Settings) -> Mapping[Service, ServiceEntry]:
    """Return where every service is, as the environment and its variables have it."""
    entries: dict[Service, ServiceEntry] = {}
    for service, place in _TABLE.items():
        url, source = _url(settings, service, entries)
        entries[service] = ServiceEntry(
            service=service,
            url=url,
            source=source,
            variable=_variable(place),
            is_used=_is_used(settings, service),
            purpose=place.purpose,
        )
    return MappingProxyType(entries)


def _url(
    settings: Settings, service: Service, found: Mapping[Service, ServiceEntry]
) -> tuple[str | None, UrlSource]:
    place = _TABLE[service]
    given = _given(settings, service, place)
    if given is not None:
        return given, "environment"
    if service in _BELOW_AUTO_MOVIE:
        above = found[Service.AUTO_MOVIE].url or ""
        return above.rstrip("/") + _BELOW_AUTO_MOVIE[service], "derived"
    if service is Service.MEDIA_CDN and settings.environment == "production":
        return f"https://media.{DOMAINS['production']}", "registry"
    url = place.local
    if settings.environment != "development":
        domain = DOMAINS[settings.environment]
        url = None if place.host is None else f"https://{place.host}.{domain}"
    return url, "unset" if url is None else "registry"


def _given(settings: Settings, service: Service, place: _Place) -> str | None:
    """Return the URL that the environment's variables give."""
    if service in PLACED_TOGETHER:
        pairs = dict(pair.split("=", 1) for pair in settings.service_urls)
        return pairs.get(service)
    if service is Service.BRAIN_SERVICE:
        return settings.mcp_brain_service_url or settings.brain_service_base_url
    name = _setting(place)
    if name == "artifacts_public_url" and name not in settings.model_fields_set:
        return None  # it follows from where artifacts are stored
    return getattr(settings, name)


def _setting(place: _Place) -> str:
    return place.setting or "service_urls"


def _variable(place: _Place) -> str:
    return variable_of(_setting(place))


def _is_used(settings: Settings, service: Service) -> bool:
    match service:
        case Service.TASK_SERVICE:
            return True
        case Service.REDIS:
            return settings.redis_url is not None  # else an embedded one
        case Service.BRAIN_SERVICE:
            return settings.brain_ws_url is not None
        case Service.PAYLOAD_API:
            return settings.payload_api_url is not None
        case Service.MEDIA_CDN:
            return "artifacts_public_url" in settings.model_fields_set
        case Service.HEALTH:
            return settings.health_address != "none"
        case Service.DOCS:
            return settings.docs_address != "none"
        case _:
            return False
