"""What a process is told of the brain, and the brain it makes of it."""

from datetime import timedelta

import pytest

from callsheet.brain.brain import Brain
from callsheet.runtime.brain import brain_of
from callsheet.runtime.settings import SettingsError, describe, load_settings

pytestmark = pytest.mark.usefixtures("bare_environment")


def test_without_a_url_there_is_no_brain() -> None:
    assert brain_of(load_settings(), jitter=lambda: 0.5) is None


async def test_a_url_makes_a_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAIN_WS_URL", "ws://127.0.0.1:8002/mcp")
    monkeypatch.setenv("BRAIN_HTTP_URL", "http://127.0.0.1:8002")
    monkeypatch.setenv("CALLSHEET_BRAIN_TOKEN", "t0k3n")
    monkeypatch.setenv("CALLSHEET_BRAIN_TOOLS", "store_task_events=,health_check=status")
    monkeypatch.setenv("CALLSHEET_BRAIN_TIME_LIMIT_SECONDS", "0.15")
    settings = load_settings()
    assert settings.brain_time_limit == timedelta(milliseconds=150)
    assert isinstance(brain_of(settings, jitter=lambda: 0.5), Brain)
    shown = {row.variable: row.value for row in describe(settings)}
    assert shown["CALLSHEET_BRAIN_TOKEN"] == "***"
    assert shown["CALLSHEET_BRAIN_TOOLS"] == "store_task_events=,health_check=status"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BRAIN_WS_URL", "http://127.0.0.1:8002/mcp"),
        ("BRAIN_WS_URL", "ws://user:password@127.0.0.1/mcp"),
        ("BRAIN_HTTP_URL", "ftp://127.0.0.1"),
        ("CALLSHEET_BRAIN_TOOLS", "store_everything=add"),
        ("CALLSHEET_BRAIN_TIME_LIMIT_SECONDS", "0.01"),
        ("CALLSHEET_BRAIN_BACKLOG", "10"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: must"):
        load_settings()


def test_a_token_that_is_refused_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_BRAIN_TOKEN", "two words")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert "two words" not in str(refusal.value)
