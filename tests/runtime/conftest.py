"""What tests of settings start from."""

from pathlib import Path

import pytest

from callsheet.runtime.settings import Settings, variable_of


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.chdir(tmp_path)
