"""Every task type has its handler and its test; adding one touches four files and no more."""

import filecmp
import inspect
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final, get_type_hints

import pytest
from google.protobuf.descriptor import Descriptor

from callsheet.ledger.catalog import task_types
from callsheet.runner.context import TaskContext
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.repo.tree import REPOSITORY, ROOTS

COPIED: Final = (*ROOTS, "third_party", "tests", "buf.yaml", "pyproject.toml", "README.md")
JUNK: Final = shutil.ignore_patterns("__pycache__", ".hypothesis", "*.pyc", ".gen-*")
PROGRAMS: Final = Path(sys.executable).parent

PROTO: Final = """\
syntax = "proto3";

package callsheet.tasks.v1;

import "buf/validate/validate.proto";
import "callsheet/tasks/v1/options.proto";

// Say it louder.
message ShoutInput {
  option (callsheet.tasks.v1.task_type) = {
    queue: "shouting"
    priority: 5
    max_attempts: 3
    backoff: {
      initial: {seconds: 1}
      multiplier: 2
      maximum: {seconds: 60}
    }
    time_limit: {seconds: 10}
    grace_period: {seconds: 5}
    resource_class: RESOURCE_CLASS_CPU
    output_type: "callsheet.tasks.v1.ShoutOutput"
  };

  // What is said. 1 to 100 characters.
  string words = 1 [(buf.validate.field).string = {
    min_len: 1
    max_len: 100
  }];
}

// The answer to a ShoutInput.
message ShoutOutput {
  // The same in capitals.
  string words = 1;
}
"""

ARM: Final = """\
    // Say it louder.
    callsheet.tasks.v1.ShoutInput shout = 100;
"""

HANDLER: Final = '''\
"""Say it louder."""

from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.shout_pb2 import ShoutInput, ShoutOutput


def run(input: ShoutInput, context: TaskContext) -> ShoutOutput:
    """Return the words in capitals."""
    context.check()
    return ShoutOutput(words=input.words.upper())
'''

TEST: Final = '''\
"""The task type shout."""

from unittest.mock import create_autospec

from callsheet.handlers import shout
from callsheet.ledger.catalog import ResourceClass, queues
from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.shout_pb2 import ShoutInput
from callsheet.v1.task_spec_pb2 import TaskSpec


def test_what_is_said_comes_back_in_capitals() -> None:
    said = ShoutInput(words="hello")
    assert shout.run(said, create_autospec(TaskContext, instance=True)).words == "HELLO"


def test_the_plane_has_a_queue_for_it() -> None:
    assert queues()["shouting"] is ResourceClass.CPU
    assert TaskSpec(shout=ShoutInput(words="hello")).WhichOneof("input") == "shout"
'''

#: All that a new task type touches: path → what is written there. The arm is edited in.
SPEC: Final = "protos/callsheet/v1/task_spec.proto"
ADDED: Final = {
    "protos/callsheet/tasks/v1/shout.proto": PROTO,
    "actors/callsheet/handlers/shout.py": HANDLER,
    "tests/handlers/test_shout.py": TEST,
}


@pytest.mark.parametrize("name", task_types())
def test_every_task_type_has_a_handler_of_its_messages(name: str) -> None:
    """`run(input, context) -> output`, with the messages that the contract names."""
    run = import_module(f"callsheet.handlers.{name}").run
    hints = get_type_hints(run)
    assert list(inspect.signature(run).parameters) == ["input", "context"]
    assert hints["context"] is TaskContext
    descriptors = [hints[part].DESCRIPTOR for part in ("input", "return")]
    assert [it.full_name for it in descriptors] == [
        _input(name).full_name,
        task_types()[name].output_type,
    ]


@pytest.mark.parametrize("name", task_types())
def test_every_task_type_has_a_test(name: str) -> None:
    assert (REPOSITORY / "tests" / "handlers" / f"test_{name}.py").is_file()


def test_every_handler_has_a_task_type() -> None:
    room = REPOSITORY / "actors" / "callsheet" / "handlers"
    assert {module.stem for module in room.glob("*.py")} - {"__init__"} == set(task_types())


@pytest.mark.timeout(300)
def test_a_new_task_type_is_one_proto_one_arm_one_handler_and_one_test(tmp_path: Path) -> None:
    # Given a copy of the repository, and how it was
    copy, before = tmp_path / "copy", tmp_path / "before"
    _copy(REPOSITORY, before)
    _copy(before, copy)
    # When a task type is added and its code generated
    for path, text in ADDED.items():
        (copy / path).write_text(text)
    _add_arm(copy / SPEC)
    _run(copy, sys.executable, "protos/generate.py")
    # Then the linter of the contract, the new test and the rules of task types are content
    _run(copy, PROGRAMS / "buf", "lint")
    _run(copy, PROGRAMS / "ruff", "check", *(path for path in ADDED if path.endswith(".py")))
    _run(copy, sys.executable, "-m", "pytest", "tests/handlers/test_shout.py")
    _run(copy, sys.executable, "-m", "pytest", "tests/repo/test_task_types.py", "-k", "every")
    # And nothing else was touched, but for what is generated
    touched = {path for path in _touched(before, copy) if not path.startswith("protos/gen/")}
    assert touched == {*ADDED, SPEC}
    assert _touched_lines(before / SPEC, copy / SPEC) == 3  # the import, the comment and the arm


def _input(name: str) -> Descriptor:
    message = TaskSpec.DESCRIPTOR.fields_by_name[name].message_type
    assert message is not None
    return message


def _copy(tree: Path, target: Path) -> None:
    target.mkdir()
    for name in COPIED:
        if (tree / name).is_dir():
            shutil.copytree(tree / name, target / name, ignore=JUNK)
        else:
            shutil.copy(tree / name, target)


def _add_arm(spec: Path) -> None:
    head, last, tail = spec.read_text().rpartition("  }\n}\n")
    imported = 'import "callsheet/tasks/v1/ping.proto";\n'
    assert last
    assert imported in head
    head = head.replace(imported, imported + imported.replace("ping", "shout"))
    spec.write_text(head + ARM + last + tail)


def _run(copy: Path, *command: str | Path) -> None:
    """Run in the copy, whose four source roots come before those of the repository."""
    roots = ("protos/gen", "clients", "services", "actors")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(copy / root) for root in roots),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    result = subprocess.run(
        command,
        cwd=copy,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    if result.returncode != 0:
        pytest.fail(result.stdout)


def _touched(before: Path, after: Path) -> set[str]:
    """Return the paths that differ."""
    old, new = _names(before), _names(after)
    _, changed, unread = filecmp.cmpfiles(before, after, old & new, shallow=False)
    return {*changed, *unread, *(old ^ new)}


def _names(tree: Path) -> set[str]:
    found = (path for root in COPIED for path in [tree / root, *(tree / root).rglob("*")])
    names = {path.relative_to(tree) for path in found if path.is_file()}
    junk = {"__pycache__", ".hypothesis"}
    return {name.as_posix() for name in names if junk.isdisjoint(name.parts)}


def _touched_lines(before: Path, after: Path) -> int:
    """Return how many lines were added; none may have gone."""
    old, new = (path.read_text().splitlines() for path in (before, after))
    assert [line for line in new if line in old] == old
    return len(new) - len(old)
