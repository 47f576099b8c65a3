"""The checked-in build of the dashboard is what its sources make, and its logic is right."""

from pathlib import Path

import pytest

from tests.support.node import BUILT, DASHBOARD, is_installed, npm_run

LONGEST_FILE = 400


@pytest.fixture(scope="session")
def packages() -> None:
    """Skip, and say what to do."""
    if not is_installed():
        pytest.skip("the dashboard's packages are not installed: `make dashboard` does so from npm")


@pytest.mark.usefixtures("packages")
def test_the_checked_in_build_is_what_the_sources_make(tmp_path: Path) -> None:
    """`make dashboard` makes it anew."""
    done = npm_run("build", DASHBOARD_OUT=str(tmp_path / "built"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert _contents(tmp_path / "built") == _contents(BUILT)


@pytest.mark.usefixtures("packages")
def test_the_logic_does_as_its_own_tests_say() -> None:
    done = npm_run("test")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_brings_everything_along_and_says_nothing_inline() -> None:
    page = (BUILT / "index.html").read_text()
    assert "<style" not in page
    assert "style=" not in page
    assert "http" not in page
    assert page.count("<script") == page.count('<script type="module" crossorigin src="./assets/')


def test_no_source_is_longer_than_a_reader_can_hold() -> None:
    written = (
        path
        for folder in ("src", "generate", "test")
        for path in (DASHBOARD / folder).rglob("*")
        if path.suffix in {".ts", ".tsx", ".css"}
    )
    lengths = {path.name: path.read_text().count("\n") for path in written}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
