"""The command callsheetd, as a person uses it."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.runtime.registry_settings import Service
from callsheet.runtime.settings import Settings, variable_of

KEY = re.compile(r"cs_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


class Command:
    """Runs callsheetd in a state folder of its own."""

    def __init__(self, state_dir: Path) -> None:
        settings = {variable_of(name) for name in Settings.model_fields}
        bare = {name: value for name, value in os.environ.items() if name not in settings}
        self.environment = {**bare, "CALLSHEET_STATE_DIR": str(state_dir)}

    def __call__(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "callsheet.embedded.main", *words],
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def answer(self, *words: str, **variables: str) -> str:
        """Return what a command that succeeds prints."""
        ended = self(*words, **variables)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    def refusal(self, *words: str, **variables: str) -> str:
        """Return the one line of a command that is refused."""
        ended = self(*words, **variables)
        assert (ended.returncode, ended.stdout) == (1, "")
        (line,) = ended.stderr.splitlines()
        return line


@pytest.fixture
def callsheetd(tmp_path: Path) -> Command:
    return Command(tmp_path / "state")


@pytest.fixture
def on_server(callsheetd: Command, valkey_server: EmbeddedValkey, cell: str) -> Command:
    """The command on the session's server, in a cell of its own."""
    callsheetd.environment |= {"REDIS_URL": valkey_server.url, "CALLSHEET_CELL": cell}
    return callsheetd


def test_settings_are_shown_with_their_sources_and_without_secrets(callsheetd: Command) -> None:
    shown = json.loads(
        callsheetd.answer(
            "settings", "--json", CALLSHEET_CELL="north", CALLSHEET_WEBHOOK_MASTER_KEY="k" * 32
        )
    )
    rows = {row["variable"]: row for row in shown["settings"]}
    assert (rows["CALLSHEET_CELL"]["value"], rows["CALLSHEET_CELL"]["source"]) == (
        "north",
        "environment",
    )
    assert rows["CALLSHEET_WEBHOOK_MASTER_KEY"]["value"] == "***"
    assert rows["CALLSHEET_CACHE_DIR"]["source"] == "derived"
    assert set(shown["settings"][0]) == {"name", "variable", "value", "source", "meaning"}


def test_settings_show_where_every_service_is(callsheetd: Command) -> None:
    shown = json.loads(
        callsheetd.answer(
            *("settings", "--json"),
            CALLSHEET_ENVIRONMENT="production",
            PROMETHEUS_URL="https://metrics.example.com",
            REDIS_URL="redis://me:hunter2@redis:6379/0",
        )
    )
    assert shown["environment"] == "production"
    services = {each["service"]: each for each in shown["services"]}
    assert set(services) == set(Service)
    assert services["auto_movie"]["url"] == "https://auto-movie.ft.tc"
    assert services["prometheus"]["url"] == "https://metrics.example.com"
    assert services["prometheus"]["source"] == "environment"
    assert services["redis"]["url"] == "redis://***@redis:6379/0"
    assert set(services["redis"]) == {
        *("service", "url", "source", "variable", "is_used", "purpose")
    }


def test_settings_are_two_tables_for_people(callsheetd: Command) -> None:
    settings, _, services = callsheetd.answer("settings").partition("\n\n")
    lines = settings.splitlines()
    assert len(lines) == len(Settings.model_fields)
    assert services.startswith("Services of development;")
    assert len(services.splitlines()) == 1 + len(Service)
    assert re.search(r"^\* task_service +http://localhost:8001 +registry", services, re.MULTILINE)
    assert re.match(r"REDIS_URL +unset +default +Redis of the ledger;", lines[3])


def test_a_wrong_setting_is_one_line_and_exit_78(callsheetd: Command) -> None:
    ended = callsheetd("settings", CALLSHEET_LEASE_SECOND="3")
    assert ended.returncode == 78
    assert ended.stderr == (
        "CALLSHEET_LEASE_SECOND: there is no such setting; did you mean CALLSHEET_LEASE_SECONDS?\n"
    )


@pytest.mark.parametrize("words", [[], ["fly"], ["keys"], ["keys", "create"], ["up", "--fast"]])
def test_a_wrong_command_line_is_exit_2(callsheetd: Command, words: list[str]) -> None:
    ended = callsheetd(*words)
    assert ended.returncode == 2
    assert "usage: callsheetd" in ended.stderr


def test_the_text_for_help_names_every_command_and_exit_code(callsheetd: Command) -> None:
    text = callsheetd.answer("--help")
    for word in (
        "up",
        "control",
        "gateway",
        "upkeep",
        "worker",
        "sidecar",
        "keys",
        "webhooks",
        "media",
        "models",
        "settings",
        "doctor",
    ):
        assert re.search(rf"^    {word} +\w", text, re.MULTILINE), word
    for code in ("0", "1", "2", "3", "78", "130"):
        assert re.search(rf"^  {code} +\w", text, re.MULTILINE), code


def test_a_key_is_made_listed_and_revoked(on_server: Command) -> None:
    made = json.loads(
        on_server.answer(
            *("keys", "create", "--project", "b", "--project", "a"),
            *("--role", "read", "--role", "submit", "--json"),
        )
    )
    assert KEY.fullmatch(made["key"])
    assert (made["projects"], made["roles"]) == (["a", "b"], ["read", "submit"])
    (listed,) = json.loads(on_server.answer("keys", "list", "--json"))
    assert listed == {name: value for name, value in made.items() if name != "key"}
    line = on_server.answer("keys", "list")
    assert line.split() == [made["key_id"], listed["create_time"], "read,submit", "a,b"]
    assert on_server.answer("keys", "revoke", made["key_id"]) == f"revoked {made['key_id']}\n"
    assert on_server.answer("keys", "list") == ""
    assert on_server.refusal("keys", "revoke", made["key_id"]) == (
        f"callsheetd: there is no key {made['key_id']}"
    )


def test_a_key_s_text_is_on_a_line_of_its_own(on_server: Command) -> None:
    text = on_server.answer("keys", "create", "--project", "default", "--role", "operate")
    assert KEY.fullmatch(text.splitlines()[0])


def test_a_key_for_no_possible_project_is_refused(on_server: Command) -> None:
    refusal = on_server.refusal("keys", "create", "--project", "a b", "--role", "read")
    assert refusal == "callsheetd: 'a b' cannot be a project's name"
    assert on_server.answer("keys", "list") == ""


def test_without_redis_url_keys_are_kept_in_the_embedded_valkey(callsheetd: Command) -> None:
    callsheetd.answer("keys", "create", "--project", "default", "--role", "read")
    assert len(json.loads(callsheetd.answer("keys", "list", "--json"))) == 1


def test_a_redis_that_is_not_there_is_one_line(callsheetd: Command, tmp_path: Path) -> None:
    refusal = callsheetd.refusal("keys", "list", REDIS_URL=f"unix://{tmp_path}/none.sock")
    assert refusal.startswith("callsheetd: ")
    assert "none.sock" in refusal


def test_a_webhook_secret_stays_the_same(callsheetd: Command, tmp_path: Path) -> None:
    show = ("webhooks", "secret", "show", "--project", "default")
    first = callsheetd.answer(*show)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=\n", first)
    again = json.loads(callsheetd.answer(*show, "--json"))
    only = {"version": 1, "secret": first.strip()}
    assert again == {"project": "default", **only, "secrets": [only]}
    rotated = callsheetd.answer(*show, "--version", "2")
    assert rotated != first
    kept = tmp_path / "state" / "webhook-master.key"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_webhook_secret_needs_a_master_key_in_production(callsheetd: Command) -> None:
    words = ("webhooks", "secret", "show", "--project", "default")
    assert callsheetd.refusal(*words, CALLSHEET_ENVIRONMENT="production") == (
        "callsheetd: CALLSHEET_WEBHOOK_MASTER_KEY must be set in production"
    )


@pytest.mark.parametrize("room", ["control", "worker"])
def test_a_process_without_a_redis_is_refused(callsheetd: Command, room: str) -> None:
    assert "REDIS_URL is not set, and no `callsheetd up` runs in" in callsheetd.refusal(room)


def test_a_process_gets_the_redis_of_the_folder(
    callsheetd: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room here is a stand-in that prints what it was given."""
    program = (
        "import sys; from callsheet.embedded import main;"
        "main.room_command = lambda room: (sys.executable, '-c',"
        " 'import os; print(os.environ[\"REDIS_URL\"])');"
        "sys.exit(main.main(['worker']))"
    )
    with EmbeddedValkey(tmp_path / "state" / "valkey") as server:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=callsheetd.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert ended.stdout.strip() == server.url
