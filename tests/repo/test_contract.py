"""The contract: generated code is current, and a break of what has landed is refused."""

import filecmp
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.repo.tree import GENERATED, REPOSITORY

BUF: Final = Path(sys.executable).parent / "buf"


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    fresh = tmp_path / "gen"
    _run(sys.executable, REPOSITORY / "protos" / "generate.py", fresh)
    assert _modules(GENERATED) == _modules(fresh), "make gen brings it up to date"
    _, changed, unread = filecmp.cmpfiles(GENERATED, fresh, _modules(fresh), shallow=False)
    assert (changed, unread) == ([], []), "make gen brings it up to date"


def test_a_contract_that_the_compiler_refuses_leaves_the_generated_code_alone(
    tmp_path: Path,
) -> None:
    # Given a contract with generated code, and a mistake
    copy = _copy_contract(tmp_path)
    (copy / "protos" / "gen" / "kept.py").parent.mkdir()
    (copy / "protos" / "gen" / "kept.py").touch()
    (copy / "protos" / "callsheet" / "v1" / "mistake.proto").write_text("nonsense")
    # When it is generated, then that fails and the old code stands
    with pytest.raises(subprocess.CalledProcessError):
        _run(sys.executable, copy / "protos" / "generate.py")
    assert _names(copy / "protos" / "gen") == {"kept.py"}


@pytest.fixture
def landed(tmp_path: Path) -> Path:
    """A repository in which the contract has landed as it stands."""
    copy = _copy_contract(tmp_path)
    _run("git", "init", "--quiet", "--initial-branch=main", copy)
    _commit(copy, "The contract")
    return copy


def test_an_unchanged_contract_breaks_nothing(landed: Path) -> None:
    assert "no earlier contract" in _breaking(landed).stdout


def test_an_added_field_breaks_nothing(landed: Path) -> None:
    _edit(landed, "string echo = 2", "bool loud = 100; string echo = 2")
    assert _breaking(landed).returncode == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("string echo = 2", "string echo = 3", id="number"),
        pytest.param("string echo = 2", "string answer = 2", id="name"),
        pytest.param("string echo = 2", "uint32 echo = 2", id="type"),
        pytest.param("message PingOutput", "message PongOutput", id="message"),
    ],
)
def test_a_break_is_refused_before_and_after_its_commit(landed: Path, old: str, new: str) -> None:
    _edit(landed, old, new)
    assert _breaking(landed).returncode != 0
    _commit(landed, "Break it")
    assert _breaking(landed).returncode != 0


def test_a_break_on_a_branch_is_refused_however_many_commits_ago(landed: Path) -> None:
    # Given a branch that breaks the contract and goes on
    _git(landed, "update-ref", "refs/remotes/origin/main", "HEAD")
    _edit(landed, "string echo = 2", "string echo = 3")
    _commit(landed, "Break it")
    _edit(landed, "string echo = 3", "bool loud = 100; string echo = 3")
    _commit(landed, "Go on")
    # When it is compared with what has landed, then it is refused
    assert _breaking(landed).returncode != 0


def test_a_break_with_a_reason_is_accepted_and_later_ones_are_compared_with_it(
    landed: Path,
) -> None:
    _edit(landed, "string echo = 2", "string echo = 3")
    _commit(landed, "Break it\n\nBreaks-Contract: nobody has ever sent it")
    assert _breaking(landed).returncode == 0
    _edit(landed, "string echo = 3", "string echo = 4")
    assert _breaking(landed).returncode != 0


def _copy_contract(folder: Path) -> Path:
    copy = folder / "copy"
    for name in ("protos", "third_party"):
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("gen", "__pycache__")
        )
    shutil.copy(REPOSITORY / "buf.yaml", copy)
    return copy


def _edit(copy: Path, old: str, new: str) -> None:
    proto = copy / "protos" / "callsheet" / "tasks" / "v1" / "ping.proto"
    text = proto.read_text()
    assert old in text
    proto.write_text(text.replace(old, new))


def _breaking(copy: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, copy / "protos" / "breaking.py"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def _commit(copy: Path, message: str) -> None:
    _git(copy, "add", "--all")
    _git(copy, "-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "-qm", message)


def _git(copy: Path, *arguments: str) -> None:
    _run("git", "-C", copy, *arguments)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def _modules(folder: Path) -> set[str]:
    return {name for name in _names(folder) if "__pycache__" not in name}
