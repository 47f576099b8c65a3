"""Where the services of the platform are: three tables, and what the environment says otherwise."""

import pytest

from callsheet.runtime.registry_settings import PLACED_TOGETHER, Service
from callsheet.runtime.service_registry import Environment, ServiceEntry, service_registry
from callsheet.runtime.settings import SettingsError, describe, load_settings

pytestmark = pytest.mark.usefixtures("bare_environment")

#: As the platform's own document has them.
DOCUMENTED: dict[Environment, dict[Service, str | None]] = {
    "development": {
        Service.AUTO_MOVIE: "http://localhost:3010",
        Service.TASK_SERVICE: "http://localhost:8001",
        Service.BRAIN_SERVICE: "http://localhost:8002",
        Service.ORCHESTRATOR: "http://localhost:8003",
        Service.NEO4J: "http://localhost:7474",
        Service.NEO4J_BOLT: "bolt://localhost:7687",
        Service.REDIS: "redis://localhost:6379/0",
        Service.MONGODB: "mongodb://localhost:27017/auto-movie",
        Service.PROMETHEUS: "http://localhost:9090",
        Service.GRAFANA: "http://localhost:3001",
        Service.PAYLOAD_API: "http://localhost:3010/api",
        Service.WEBHOOKS: "http://localhost:3010/api/webhooks",
        Service.MEDIA_CDN: None,
        Service.HEALTH: "http://localhost:8100",
        Service.DOCS: "http://localhost:8300",
    },
    "staging": {
        Service.AUTO_MOVIE: "https://auto-movie.ngrok.pro",
        Service.TASK_SERVICE: "https://tasks.ngrok.pro",
        Service.BRAIN_SERVICE: "https://brain.ngrok.pro",
        Service.ORCHESTRATOR: "https://agents.ngrok.pro",
        Service.NEO4J: "https://neo4j.ngrok.pro",
        Service.PROMETHEUS: "https://metrics.ngrok.pro",
        Service.GRAFANA: "https://dashboard.ngrok.pro",
        Service.PAYLOAD_API: "https://auto-movie.ngrok.pro/api",
        Service.WEBHOOKS: "https://auto-movie.ngrok.pro/api/webhooks",
        Service.REDIS: None,
        Service.MONGODB: None,
        Service.MEDIA_CDN: None,
    },
    "production": {
        Service.AUTO_MOVIE: "https://auto-movie.ft.tc",
        Service.TASK_SERVICE: "https://tasks.ft.tc",
        Service.BRAIN_SERVICE: "https://brain.ft.tc",
        Service.ORCHESTRATOR: "https://agents.ft.tc",
        Service.NEO4J: "https://neo4j.ft.tc",
        Service.MEDIA_CDN: "https://media.ft.tc",
        Service.PROMETHEUS: "https://metrics.ft.tc",
        Service.GRAFANA: "https://dashboard.ft.tc",
        Service.PAYLOAD_API: "https://auto-movie.ft.tc/api",
        Service.DOCS: "https://app-docs.ft.tc",
        Service.UPLOADS: "https://uploads.ft.tc",
        Service.REDIS: None,
    },
}


def entry(service: Service) -> ServiceEntry:
    return service_registry(load_settings())[service]


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_every_environment_has_the_documents_table(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSHEET_ENVIRONMENT", environment)
    registry = service_registry(load_settings())
    assert set(registry) == set(Service)
    told = {service: registry[service].url for service in DOCUMENTED[environment]}
    assert told == DOCUMENTED[environment]


@pytest.mark.parametrize(
    ("variable", "service", "url"),
    [
        ("AUTO_MOVIE_APP_URL", Service.AUTO_MOVIE, "https://films.example.com"),
        ("CELERY_TASK_SERVICE_URL", Service.TASK_SERVICE, "https://tasks.example.com"),
        ("MCP_BRAIN_SERVICE_URL", Service.BRAIN_SERVICE, "https://brain.example.com"),
        ("BRAIN_SERVICE_BASE_URL", Service.BRAIN_SERVICE, "https://brain.example.com"),
        ("PAYLOAD_API_URL", Service.PAYLOAD_API, "https://films.example.com/cms/api"),
        ("WEBHOOK_BASE_URL", Service.WEBHOOKS, "https://films.example.com/hooks"),
        ("REDIS_URL", Service.REDIS, "redis://redis:6379/0"),
        ("R2_PUBLIC_URL", Service.MEDIA_CDN, "https://media.example.com"),
        ("PROMETHEUS_URL", Service.PROMETHEUS, "https://metrics.example.com"),
        ("GRAFANA_URL", Service.GRAFANA, "https://graphs.example.com"),
        ("NEO4J_URI", Service.NEO4J_BOLT, "neo4j+s://graph.example.com:7687"),
        ("MONGODB_URI", Service.MONGODB, "mongodb+srv://mongo.example.com/films"),
    ],
)
def test_the_documents_variables_win_over_the_table(
    monkeypatch: pytest.MonkeyPatch, variable: str, service: Service, url: str
) -> None:
    monkeypatch.setenv("CALLSHEET_ENVIRONMENT", "staging")
    monkeypatch.setenv(variable, url)
    found = entry(service)
    assert (found.url, found.source) == (url, "environment")


def test_what_is_below_the_web_application_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTO_MOVIE_APP_URL", "https://films.example.com/")
    assert entry(Service.PAYLOAD_API).url == "https://films.example.com/api"
    assert entry(Service.WEBHOOKS).url == "https://films.example.com/api/webhooks"
    assert entry(Service.WEBHOOKS).source == "derived"


def test_services_without_a_variable_are_placed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CALLSHEET_SERVICE_URLS", "orchestrator=https://agents.example.com, story=http://story:1/x"
    )
    assert entry(Service.ORCHESTRATOR).url == "https://agents.example.com"
    assert entry(Service.STORY).url == "http://story:1/x"
    assert entry(Service.ASSETS).source == "registry"
    registry = service_registry(load_settings())
    together = {each for each, at in registry.items() if at.variable == "CALLSHEET_SERVICE_URLS"}
    assert together == PLACED_TOGETHER


@pytest.mark.parametrize(
    "value",
    [
        "orchestrator",
        "nobody=https://example.com",
        "auto_movie=https://example.com",
        "story=ftp://example.com",
        "story=http://a,story=http://b",
        "story=http://me:secret@example.com",
    ],
)
def test_what_places_no_service_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CALLSHEET_SERVICE_URLS", value)
    with pytest.raises(SettingsError, match=r"^CALLSHEET_SERVICE_URLS: "):
        load_settings()


def test_the_registry_alone_makes_the_plane_talk_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLSHEET_ENVIRONMENT", "production")
    monkeypatch.setenv("AUTO_MOVIE_APP_URL", "https://films.example.com")
    settings = load_settings()
    assert (settings.brain_ws_url, settings.brain_http_url) == (None, None)
    assert (settings.payload_api_url, settings.redis_url) == (None, None)
    used = {each.service for each in service_registry(settings).values() if each.is_used}
    assert used == {Service.TASK_SERVICE, Service.HEALTH, Service.DOCS}


@pytest.mark.parametrize("variable", ["MCP_BRAIN_SERVICE_URL", "BRAIN_SERVICE_BASE_URL"])
@pytest.mark.parametrize(
    ("origin", "ws_url", "http_url"),
    [
        ("https://brain.ft.tc", "wss://brain.ft.tc/mcp", "https://brain.ft.tc"),
        ("http://localhost:8002/", "ws://localhost:8002/mcp", "http://localhost:8002"),
        ("http://mesh/brain", "ws://mesh/brain/mcp", "http://mesh/brain"),
    ],
)
def test_a_brain_that_is_named_is_the_brain_that_is_asked(
    monkeypatch: pytest.MonkeyPatch, variable: str, origin: str, ws_url: str, http_url: str
) -> None:
    monkeypatch.setenv(variable, origin)
    settings = load_settings()
    assert (settings.brain_ws_url, settings.brain_http_url) == (ws_url, http_url)
    assert entry(Service.BRAIN_SERVICE).is_used


def test_what_the_brain_is_told_itself_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_BRAIN_SERVICE_URL", "https://brain.ft.tc")
    monkeypatch.setenv("BRAIN_WS_URL", "ws://127.0.0.1:1/socket")
    assert load_settings().brain_ws_url == "ws://127.0.0.1:1/socket"


def test_two_names_of_one_brain_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_BRAIN_SERVICE_URL", "https://brain.ft.tc")
    monkeypatch.setenv("BRAIN_SERVICE_BASE_URL", "https://brain.ft.tc")
    load_settings()
    monkeypatch.setenv("BRAIN_SERVICE_BASE_URL", "https://other.ft.tc")
    with pytest.raises(SettingsError, match=r"^BRAIN_SERVICE_BASE_URL: names another brain"):
        load_settings()


def test_no_password_of_a_database_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://me:hunter2@mongo:27017/films")
    monkeypatch.setenv("NEO4J_URI", "bolt://neo4j:hunter2@graph:7687")
    settings = load_settings()
    shown = " ".join(each.shown for each in service_registry(settings).values())
    assert "hunter2" not in f"{shown} {settings!r} {describe(settings)}"
    assert entry(Service.MONGODB).shown == "mongodb://***@mongo:27017/films"


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("AUTO_MOVIE_APP_URL", "films.example.com", "must be a URL of https:// or http://"),
        ("MONGODB_URI", "redis://h", "must be a URL of bolt://, neo4j://, mongodb://"),
        ("CALLSHEET_HEALTH_ADDRESS", "8100", "must be host:port, or none"),
        ("CALLSHEET_DOCS_ADDRESS", "h:65536", "must end in a port from 0 to 65535"),
        ("CALLSHEET_HEALTH_INTERVAL_SECONDS", "0", "must be 0.1 to 300 seconds"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable}: {complaint}")


def test_an_address_may_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_HEALTH_ADDRESS", "none")
    assert load_settings().health_address == "none"
    assert not entry(Service.HEALTH).is_used
