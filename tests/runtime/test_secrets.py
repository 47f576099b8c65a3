"""Webhook secrets are derived from one master key, which only this user reads."""

import base64
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from callsheet.runtime.secrets import (
    MASTER_KEY_FILE,
    SecretUnusable,
    keep_secret,
    load_master_key,
    read_secret,
    webhook_secret,
)
from callsheet.runtime.settings import Settings

MASTER = b"m" * 32


def test_a_project_s_secret_is_the_same_for_ever() -> None:
    """A changed derivation would silently invalidate every receiver's secret."""
    assert (
        webhook_secret(MASTER, "default", 1) == "whsec_cQgtriUviJChTA52Ve/JyBdjvEwfQfOKOQIS89E96ZA="
    )


def test_secrets_differ_by_project_version_and_master_key() -> None:
    secrets = {
        webhook_secret(master, project, version)
        for master in (MASTER, b"n" * 32)
        for project in ("default", "test_project")
        for version in (1, 2)
    }
    assert len(secrets) == 8


def test_a_secret_is_one_that_standard_webhooks_accepts() -> None:
    secret = webhook_secret(MASTER, "default", 1)
    Webhook(secret)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


def test_the_setting_is_the_master_key_everywhere(tmp_path: Path) -> None:
    settings = Settings(
        environment="production", state_dir=tmp_path, webhook_master_key=SecretStr("k" * 32)
    )
    assert load_master_key(settings) == b"k" * 32
    assert list(tmp_path.iterdir()) == []


def test_development_makes_the_master_key_once(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "new")
    first = load_master_key(settings)
    assert load_master_key(settings) == first
    kept = tmp_path / "new" / MASTER_KEY_FILE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert list((tmp_path / "new").iterdir()) == [kept]


def test_processes_that_start_together_agree_on_the_master_key(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    keys: list[bytes] = []
    together = threading.Barrier(8)

    def load() -> None:
        together.wait(30)
        keys.append(load_master_key(settings))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_outside_development_the_setting_must_be_there(environment: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"environment": environment, "state_dir": tmp_path})
    with pytest.raises(
        SecretUnusable, match=f"CALLSHEET_WEBHOOK_MASTER_KEY must be set in {environment}"
    ):
        load_master_key(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_master_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    load_master_key(settings)
    (tmp_path / MASTER_KEY_FILE).chmod(0o644)
    with pytest.raises(SecretUnusable, match="open to other users: chmod 600"):
        load_master_key(settings)


def test_an_emptied_secret_is_refused_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    with pytest.raises(SecretUnusable, match="holds no key"):
        read_secret(path)


def test_a_secret_that_is_kept_already_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keep_secret(path, "a" * 40)
    keep_secret(path, "b" * 40)
    assert read_secret(path) == "a" * 40
