"""Logs of children do not grow without an end."""

from pathlib import Path

from callsheet.embedded.log_file import cap, last_lines


def test_a_log_that_has_grown_too_large_begins_anew_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("a") as writer:
        writer.write("old\n" * 10)
        writer.flush()
        assert cap(log, largest_bytes=39)
        writer.write("new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "worker.log.1").read_text() == "old\n" * 10


def test_a_small_log_and_a_missing_one_are_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert not cap(log, largest_bytes=0)
    log.write_text("line\n")
    assert not cap(log, largest_bytes=5)
    assert log.read_text() == "line\n"


def test_the_last_lines_of_a_log_are_found_in_a_long_one(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert last_lines(log, count=2) == []
    log.write_text("filler\n" * 50_000 + "one\n\ntwo\n\n")
    assert last_lines(log, count=2) == ["one", "two"]
