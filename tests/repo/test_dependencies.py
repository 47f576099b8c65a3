"""What is installed: declared with a reason, pinned exactly, and no more than the client needs."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.repo.tree import REPOSITORY, project

#: What a module of the client may import besides the standard library and the contract.
CLIENT_IMPORTS: Final = frozenset({"callsheet.client", "google", "grpc"})
CONTRACT_IMPORTS: Final = ("buf", "callsheet.internal", "callsheet.tasks", "callsheet.v1")


def test_every_dependency_has_its_reason() -> None:
    requirements = [*project()["project"]["dependencies"]]
    for extra in project()["project"]["optional-dependencies"].values():
        requirements += extra
    silent = [
        line.strip()
        for line in (REPOSITORY / "pyproject.toml").read_text().splitlines()
        if any(line.strip().startswith(f'"{requirement}",') for requirement in requirements)
        and not re.search(r",\s+# \w+", line)
        and not line.strip().startswith('"callsheet[')
    ]
    assert silent == []


def test_every_dependency_is_pinned_to_what_is_installed() -> None:
    """What is missing here belongs into constraints.txt as it is shown."""
    needed = {f"{name}=={version}" for name, version in _needed().items()}
    assert needed - set(_pins()) == set()


def test_nothing_is_pinned_that_nobody_needs() -> None:
    assert [pin for pin in _pins() if _name(pin) not in _needed()] == []


def test_every_pin_is_exact_and_in_order() -> None:
    names = [_name(pin) for pin in _pins()]
    assert [pin for pin in _pins() if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", pin)] == []
    assert [(name, after) for name, after in pairwise(names) if name >= after] == []


def test_the_build_backend_is_the_pinned_one() -> None:
    """A wheel is built with the same hatchling inside and outside of the environment."""
    assert set(project()["build-system"]["requires"]) <= set(_pins())


def test_the_client_imports_nothing_but_its_dependencies() -> None:
    client = REPOSITORY / "clients" / "callsheet" / "client"
    foreign = {
        f"{module.relative_to(client)}: {name}"
        for module in client.rglob("*.py")
        for name in _imports(module)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not name.startswith(CONTRACT_IMPORTS)
        and not any(name == allowed or name.startswith(f"{allowed}.") for allowed in CLIENT_IMPORTS)
    }
    assert foreign == set()


def _pins() -> list[str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _name(pin: str) -> str:
    return pin.partition("==")[0]


@cache
def _needed() -> dict[str, str]:
    """Return the public version of everything that callsheet[dev] brings on this platform."""
    found: dict[tuple[str, frozenset[str]], str] = {}
    waiting = [Requirement("callsheet[dev]")]
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in found:
            continue
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            found[key] = "(not installed)"
            continue
        found[key] = Version(installed.version).public
        waiting += _wanted(installed.requires or [], requirement.extras)
    return {name: version for (name, _), version in found.items() if name != "callsheet"}


def _wanted(requirements: list[str], extras: set[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def _imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "callsheet":
                yield from (f"callsheet.{alias.name}" for alias in node.names)
            else:
                yield node.module
