"""Waits between attempts are set by queue."""

from datetime import timedelta

import pytest

from callsheet.runtime.retry_settings import waits_by_queue
from callsheet.runtime.settings import SettingsError, describe, load_settings


def seconds(*waits: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=wait) for wait in waits)


def test_each_queue_has_waits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().waits_by_queue == {}
    monkeypatch.setenv("CALLSHEET_RETRY_SECONDS", "gpu=120:240, system=0.5:1:0")
    settings = load_settings()
    assert settings.waits_by_queue == {"gpu": seconds(120, 240), "system": seconds(0.5, 1, 0)}
    (row,) = (row for row in describe(settings) if row.name == "retry_waits")
    assert row.value == "gpu=120:240,system=0.5:1:0"


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (("gpu",), "must have waits of 0 to 86400 seconds for gpu"),
        (("gpu=",), "must have waits of 0 to 86400 seconds for gpu"),
        (("gpu=1:-2",), "must have waits of 0 to 86400 seconds for gpu"),
        (("gpu=86401",), "must have waits of 0 to 86400 seconds for gpu"),
        (("gpu=nan",), "must have waits of 0 to 86400 seconds for gpu"),
        (("Gpu=1",), "must be queue=wait:wait"),
        (("=1",), "must be queue=wait:wait"),
        (("gpu=" + ":".join("1" * 17),), "16 at most"),
        (("gpu=1", "gpu=2"), "must name gpu once"),
    ],
)
def test_what_is_no_waits_is_refused_in_words(entries: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        waits_by_queue(entries)


def test_the_refusal_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_RETRY_SECONDS", ",".join(f"q{n}=1" for n in range(65)))
    with pytest.raises(SettingsError, match="CALLSHEET_RETRY_SECONDS: must name at most 64 queues"):
        load_settings()
