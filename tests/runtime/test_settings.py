"""Settings: one table, checked before anything is done, explained in one line each."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from callsheet.runtime.settings import (
    EXIT_SETTINGS_REFUSED,
    OTHER_VARIABLES,
    Settings,
    SettingsError,
    describe,
    load_settings,
)

pytestmark = pytest.mark.usefixtures("bare_environment")

KEY = "k" * 32


def test_the_defaults_are_those_of_development_on_one_machine(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.environment == "development"
    assert settings.state_dir == tmp_path / ".callsheet"
    assert settings.redis_url is None
    assert settings.artifacts_url == (tmp_path / ".callsheet/artifacts").as_uri()
    assert settings.artifacts_public_url == settings.artifacts_url
    assert settings.cache_dir == tmp_path / ".callsheet/cache"
    assert settings.worker_queues == ()
    assert settings.lease == timedelta(seconds=15)
    assert settings.retention == timedelta(days=30)
    assert settings.webhook_allow_private
    assert settings.webhook_allow_http


def test_derived_settings_follow_what_they_are_derived_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALLSHEET_STATE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("CALLSHEET_ENVIRONMENT", "production")
    settings = load_settings()
    assert settings.artifacts_url == (tmp_path / "elsewhere/artifacts").as_uri()
    assert settings.cache_dir == tmp_path / "elsewhere/cache"
    assert not settings.webhook_allow_private
    assert not settings.webhook_allow_http


def test_durations_are_given_as_numbers_and_queues_by_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "2.5")
    monkeypatch.setenv("CALLSHEET_RETENTION_DAYS", "7")
    monkeypatch.setenv("CALLSHEET_WORKER_QUEUES", "gpu, cpu,")
    settings = load_settings()
    assert settings.lease == timedelta(seconds=2.5)
    assert settings.retention == timedelta(days=7)
    assert settings.worker_queues == ("gpu", "cpu")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    assert load_settings().redis_url is None


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.cell = "other"


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("CALLSHEET_ENVIRONMENT", "prod", "must be 'development', 'staging' or 'production'"),
        ("CALLSHEET_CELL", "a{b}", "must be 1 to 32 of a-z, 0-9 and '-'"),
        ("REDIS_URL", "http://h", "must be a URL of redis://, rediss:// or unix://"),
        ("CALLSHEET_GRPC_ADDRESS", "50051", "must be host:port"),
        ("CALLSHEET_GRPC_ADDRESS", "h:65536", "must end in a port from 0 to 65535"),
        ("CALLSHEET_GRPC_REFLECTION", "perhaps", "must be true or false"),
        ("CALLSHEET_ARTIFACTS_URL", "ftp://h/x", "must be a URL of file:/// or s3://"),
        ("CALLSHEET_DEVICE", "gpu", "must be auto, cpu or cuda:<number>"),
        ("CALLSHEET_DTYPE", "int8", "must be 'auto', 'bfloat16', 'float16' or 'float32'"),
        ("CALLSHEET_ATTENTION", "fast", "must be 'native', 'native_cudnn', "),
        ("CALLSHEET_COMPILE", "all", "must be 'off' or 'regional'"),
        ("CALLSHEET_WARM_UP_SECONDS", "3601", "must be 0 to 3600 seconds"),
        ("CALLSHEET_WORKER_SLOTS", "0", "must be greater than or equal to 1"),
        ("CALLSHEET_WORKER_SLOTS", "257", "must be less than or equal to 256"),
        ("CALLSHEET_CPU_RUNNERS", "two", "must be a whole number"),
        ("CALLSHEET_RUNNER_MEMORY_LIMIT_BYTES", "1", "must be greater than or equal to 67108864"),
        ("CALLSHEET_WORKER_QUEUES", "gpu,A B", "must be names of queues"),
        ("CALLSHEET_LEASE_SECONDS", "soon", "must be a number of seconds"),
        ("CALLSHEET_LEASE_SECONDS", "nan", "must be a number of seconds"),
        ("CALLSHEET_LEASE_SECONDS", "1e308", "must be a number of seconds"),
        ("CALLSHEET_LEASE_SECONDS", "0.5", "must be 1 to 3600 seconds"),
        ("CALLSHEET_DRAIN_SECONDS", "-1", "must be 0 to 3600 seconds"),
        ("CALLSHEET_RETENTION_DAYS", "0", "must be 2 to 3650 days"),
        ("CALLSHEET_LOG_LEVEL", "loud", "must be 'debug', 'info', 'warning' or 'error'"),
        ("CALLSHEET_STATE_DIR", "x" * 1025, "must be a path of at most 1024 characters"),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable}: {complaint}")
    assert "\n" not in problem
    assert len(problem) < 250


def test_every_bad_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_WORKER_SLOTS", "many")
    monkeypatch.setenv("CALLSHEET_LOG_FORMAT", "xml")
    monkeypatch.setenv("CALLSHEET_LAESE_SECONDS", "3")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "CALLSHEET_LAESE_SECONDS",
        "CALLSHEET_WORKER_SLOTS",
        "CALLSHEET_LOG_FORMAT",
    ]


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CALLSHEET_LEASE_SECOND", "; did you mean CALLSHEET_LEASE_SECONDS?"),
        ("CALLSHEET_QUEUES", "; did you mean CALLSHEET_WORKER_QUEUES?"),
        ("callsheet_cell", "; did you mean CALLSHEET_CELL?"),
        ("CALLSHEET_ZZZZ", ""),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert refused.value.problems == (f"{variable}: there is no such setting{hint}",)


def test_variables_of_the_client_are_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in OTHER_VARIABLES:
        monkeypatch.setenv(variable, "x")
    load_settings()


@pytest.mark.parametrize(
    "variable", ["CALLSHEET_WEBHOOK_ALLOW_PRIVATE", "CALLSHEET_WEBHOOK_ALLOW_HTTP"]
)
def test_webhooks_are_never_open_outside_development(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("CALLSHEET_ENVIRONMENT", "staging")
    monkeypatch.setenv(variable, "true")
    with pytest.raises(SettingsError, match=f"{variable}: may be true in development alone"):
        load_settings()


def test_no_refusal_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_WEBHOOK_MASTER_KEY", "too-short")
    monkeypatch.setenv("REDIS_URL", "http://me:hunter2@host")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "too-short" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_process_with_bad_settings_says_so_in_one_line(tmp_path: Path) -> None:
    program = "from callsheet.runtime.settings import load_settings_or_exit as f; f()"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"CALLSHEET_WORKER_SLOTS": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == EXIT_SETTINGS_REFUSED
    assert ended.stderr == "CALLSHEET_WORKER_SLOTS: must be a whole number, not 'x'\n"


def test_the_table_tells_the_source_of_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_CELL", "north")
    rows = {row.name: row for row in describe(load_settings())}
    assert set(rows) == set(Settings.model_fields)
    assert (rows["cell"].value, rows["cell"].source) == ("north", "environment")
    assert (rows["lease"].value, rows["lease"].source) == ("15 s", "default")
    assert rows["retention"].value == "30 d"
    assert rows["worker_queues"].value == "all"
    assert rows["cache_dir"].source == "derived"
    assert (rows["redis_url"].value, rows["redis_url"].variable) == ("unset", "REDIS_URL")


def test_every_setting_says_what_it_means() -> None:
    for row in describe(load_settings()):
        assert row.meaning.endswith("."), row.name


def test_secrets_are_masked_wherever_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_WEBHOOK_MASTER_KEY", KEY)
    monkeypatch.setenv("REDIS_URL", "redis://me:hunter2@host:1/0")
    settings = load_settings()
    assert settings.webhook_master_key == SecretStr(KEY)
    shown = f"{settings!r} {settings} {describe(settings)}"
    assert KEY not in shown
    assert "hunter2" not in shown
    rows = {row.name: row.value for row in describe(settings)}
    assert rows["redis_url"] == "redis://***@host:1/0"
    assert rows["webhook_master_key"] == "***"
