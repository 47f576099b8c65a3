"""A long run keeps what breaks something, small, and says so."""

import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus, main
from tests.fuzz.target import plain


def _breaks_on_two_zeros(content: bytes) -> None:
    assert b"\0\0" not in content


def _finds_nothing(_: str) -> None:
    """Return nothing, as for a module that is not installed."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of one target, with one entry that is nearly what breaks it."""
    monkeypatch.setattr(corpus, "CORPUS", tmp_path)
    monkeypatch.setattr(main, "TARGETS", {"brittle": plain("brittle", _breaks_on_two_zeros)})
    monkeypatch.setattr(main, "find_spec", _finds_nothing)  # mutations alone
    monkeypatch.setattr(sys, "argv", ["fuzz", "--seconds", "60"])
    (tmp_path / "brittle").mkdir()
    (tmp_path / "brittle" / "nearly").write_bytes(b"a long entry with \0a zero in it")
    return tmp_path / "brittle"


def test_what_breaks_a_target_is_kept_in_its_corpus_made_small(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main() == 1
    (kept,) = folder.glob("crash-*")
    assert kept.read_bytes() == b"\0\0"
    assert str(kept) in capsys.readouterr().out


def test_what_was_kept_is_replayed(folder: Path) -> None:
    file = corpus.keep("brittle", b"\0\0")
    assert corpus.keep("brittle", b"\0\0") == file
    assert corpus.entries("brittle")[file.name] == b"\0\0"
