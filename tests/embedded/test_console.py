"""What `up` tells of a process: its last words, in one line."""

import json
from pathlib import Path

import pytest

from callsheet.embedded.console import last_words

RAISED: dict[str, object] = {"exc_type": "ValueError", "exc_value": "no such device"}
GROUP = {"exc_type": "ExceptionGroup", "exc_value": "1 sub-exception", "exceptions": [[RAISED]]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "it wrote nothing"),
        ("Killed", "Killed"),
        ("[1, 2]", "[1, 2]"),
        (json.dumps({"event": "redis_connected"}), "redis_connected"),
        (json.dumps({"event": "process_refused", "reason": "why"}), "process_refused: why"),
        (
            json.dumps({"event": "process_failed", "exception": [RAISED]}),
            "process_failed: ValueError: no such device",
        ),
        (
            json.dumps({"event": "process_failed", "exception": [GROUP]}),
            "process_failed: ValueError: no such device",
        ),
        ("x" * 1000, "x" * 300),
    ],
)
def test_the_last_words_of_a_process_are_its_reason(tmp_path: Path, line: str, words: str) -> None:
    log = tmp_path / "worker.log"
    log.write_text(f"earlier\n{line}\n" if line else "")
    assert last_words(log) == words
