"""The rules of style that no linter knows."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.repo.tree import REPOSITORY, modules, project, relative, rooms

LONGEST_FILE: Final = 400
LONGEST_FUNCTION: Final = 70

#: Words that say nothing: whatever bears one belongs where it is used, or has a better name.
EMPTY_WORDS: Final = frozenset(
    {"base", "common", "data", "helper", "helpers", "info", "manager", "managers"}
    | {"misc", "util", "utils"}
)

#: Names with such a word that are not ours to choose: name → reason.
GIVEN_NAMES: Final = {
    "DataLoss": "DATA_LOSS is a canonical code of gRPC",
    "data_received": "asyncio calls it on a protocol",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {path: text.count("\n") for path, text, _ in modules()}
    assert {path: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """The docstring of a function does not count."""
    lengths = {
        f"{path}:{node.lineno} {node.name}": _length(node)
        for path, _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}


def test_no_name_is_empty_of_meaning() -> None:
    names = {
        f"{path}: {name}"
        for path, _, tree in modules()
        for name in (*Path(path).with_suffix("").parts, *_defined(tree))
        if name not in GIVEN_NAMES and not EMPTY_WORDS.isdisjoint(_words(name))
    }
    assert names == set()


def test_every_switched_off_rule_has_its_reason_in_the_line() -> None:
    silent = [
        f"{path}:{line} {comment}"
        for path, text, _ in modules()
        for line, comment in _comments(text)
        if _is_switch(comment) and not _reason(comment)
    ]
    assert silent == []


def test_no_rule_is_switched_off_for_a_whole_file() -> None:
    switches = re.compile(
        r"#\s*(ruff|flake8):\s*noqa|#\s*pyright:\s*(basic|standard|strict|report)"
    )
    found = [
        f"{path}:{line} {comment}"
        for path, text, _ in modules()
        for line, comment in _comments(text)
        if switches.match(comment)
    ]
    assert found == []


def test_every_exception_from_the_linter_has_its_reason() -> None:
    """In pyproject.toml: each ignored rule, and each setting that makes pyright less strict."""
    section = (line.strip() for line in _pyproject_lines("[tool.ruff", "[tool.pyright]"))
    codes = re.compile(r'"[A-Z]+[0-9]*",|"[^"]+" = \["|report\w+ = ')
    assert [line for line in section if codes.match(line) and "#" not in line] == []


def test_every_room_is_a_package_with_one_sentence() -> None:
    silent = [relative(room) for room in rooms() if not _docstring(room / "__init__.py")]
    assert silent == []


def test_every_room_tells_its_types() -> None:
    assert [relative(room) for room in rooms() if not (room / "py.typed").is_file()] == []


def test_the_namespace_belongs_to_no_root() -> None:
    assert [relative(r.parent) for r in rooms() if (r.parent / "__init__.py").exists()] == []


def test_every_room_is_under_the_rules_of_import() -> None:
    generated = {"buf", "callsheet.internal", "callsheet.tasks", "callsheet.v1"}
    linted = set(project()["tool"]["importlinter"]["root_packages"])
    assert {f"callsheet.{room.name}" for room in rooms()} == linted - generated


def _length(function: Function) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            yield node.name


def _words(name: str) -> set[str]:
    """Return the words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


_SWITCH: Final = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*)?"
    r"|type:\s*ignore(?:\[[^\]]*\])?|pyright:\s*ignore(?:\[[^\]]*\])?)"
)


def _is_switch(comment: str) -> bool:
    return _SWITCH.search(comment) is not None


def _reason(comment: str) -> bool:
    """Whether at least two words stand beside the switches."""
    return len(re.findall(r"[A-Za-z]+", _SWITCH.sub("", comment))) > 1


def _docstring(module: Path) -> str | None:
    return ast.get_docstring(ast.parse(module.read_text())) if module.is_file() else None


def _pyproject_lines(*sections: str) -> Iterator[str]:
    lines = (REPOSITORY / "pyproject.toml").read_text().splitlines()
    inside = False
    for line in lines:
        if line.startswith("["):
            inside = line.startswith(sections)
        if inside:
            yield line
