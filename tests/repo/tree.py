"""The repository as files: what is checked, and what is not ours to check."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]

#: The source roots of the one namespace, lowest first, and the part of each that is ours to check.
ROOTS: Final = ("protos", "clients", "services", "actors")
GENERATED: Final = REPOSITORY / "protos" / "gen"
PACKAGES: Final = tuple(REPOSITORY / root / "callsheet" for root in ROOTS[1:])

_FOLDERS: Final = (*ROOTS, "dashboard", "deploy", "tests", ".ci")
_PASSED_OVER: Final = frozenset({"__pycache__", "node_modules", ".hypothesis"})


def files() -> Iterator[Path]:
    """Yield every file that people write here: no generated and no vendored one."""
    yield from (path for path in REPOSITORY.iterdir() if path.is_file() and path.name != ".git")
    for folder in _FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            written = GENERATED not in path.parents and _PASSED_OVER.isdisjoint(path.parts)
            if written and path.is_file():
                yield path


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield path, text and syntax tree of every Python module that people write here."""
    for path in files():
        if path.suffix == ".py":
            text = path.read_text()
            yield relative(path), text, ast.parse(text)


def rooms() -> list[Path]:
    """Return the folder of every room: the packages below callsheet that people write."""
    folders = (folder for package in PACKAGES if package.is_dir() for folder in package.iterdir())
    return sorted(folder for folder in folders if any(folder.rglob("*.py")))


def relative(path: Path) -> str:
    """Return the path as it stands in the repository."""
    return path.relative_to(REPOSITORY).as_posix()


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
