"""The wheel: all that people import, and a client that needs three packages and no more."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

import pytest

from tests.repo.tree import GENERATED, PACKAGES, REPOSITORY

NEEDS: Final = ("googleapis-common-protos", "grpcio", "protobuf")

#: Imports every module of the client, and shows its command line, with nothing else in reach.
USE_CLIENT: Final = """
import sys
sys.path[:0] = sys.argv[1:]
import importlib, pkgutil, callsheet.client
for module in pkgutil.walk_packages(callsheet.client.__path__, "callsheet.client."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from callsheet.client.cli.main import main
sys.argv[:] = ["callsheet", "--help"]
sys.exit(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the repository as it stands."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder]
    subprocess.run([*build, REPOSITORY], check=True, capture_output=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    expected = {
        path.relative_to(package.parent).as_posix()
        for package in (*PACKAGES, *GENERATED.iterdir())
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_an_install_without_extras_needs_three_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert sorted(re.split(r"[<>=~! ]", need)[0] for need in needs) == sorted(NEEDS)


def test_the_client_works_with_nothing_but_its_three_needs(wheel: Path, tmp_path: Path) -> None:
    # Given the wheel and its three needs, with theirs, in a folder of their own
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", tmp_path / "wheel", wheel], check=True, timeout=100)
    for installed in _with_needs(*NEEDS):
        _copy(installed, tmp_path / "needs")
    # When all of it is imported in a Python that has no other packages
    command = [sys.executable, "-I", "-S", "-c", USE_CLIENT, tmp_path / "wheel", tmp_path / "needs"]
    used = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=100, cwd=tmp_path
    )
    # Then nothing is missing
    if used.returncode != 0:
        pytest.fail(used.stderr)
    assert "submit" in used.stdout


def _with_needs(*names: str) -> Iterator[Distribution]:
    for name in names:
        installed = distribution(name)
        yield installed
        needs = [need for need in installed.requires or [] if "extra ==" not in need]
        yield from _with_needs(*(re.split(r"[<>=~!; ]", need)[0] for need in needs))


def _copy(installed: Distribution, folder: Path) -> None:
    for file in installed.files or []:
        source, target = Path(str(file.locate())), folder / file
        if ".." not in file.parts and source.suffix in {".py", ".so", ".pem"}:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
