"""The client runs on what an install without extras brings, and on nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

#: Imports every module of the client while everything else is refused.
PROGRAM = """
import importlib, pkgutil, sys

allowed = set(sys.argv[1].split(","))

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in allowed:
            raise ModuleNotFoundError(f"{name} comes with no install without extras", name=name)
        if top == "callsheet" and name.count(".") == 1 and name.split(".")[1] not in (
            "client", "tasks", "v1"
        ):
            raise ModuleNotFoundError(f"{name} is no part of the client", name=name)
        return None

sys.meta_path.insert(0, Refuse())
import callsheet.client

for module in pkgutil.walk_packages(callsheet.client.__path__, "callsheet.client."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
for name in callsheet.client.__all__:
    getattr(callsheet.client, name)
"""


def light_distributions() -> set[str]:
    """What pip brings for the package without extras, and what that brings, and so on."""
    found: set[str] = set()
    waiting = ["callsheet"]
    while waiting:
        name = waiting.pop()
        for requirement in requires(name) or ():
            required = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
            if "extra ==" not in requirement and required not in found:
                found.add(required)
                waiting.append(required)
    return found


def test_a_light_install_brings_the_wire_and_the_messages() -> None:
    assert light_distributions() == {
        "grpcio",
        "protobuf",
        "googleapis-common-protos",
        "typing-extensions",  # grpcio's own
    }


def test_the_client_imports_nothing_else() -> None:
    # Given the packages of an install without extras, by the names they are imported by
    light = light_distributions()
    allowed = {
        package
        for package, distributions in packages_distributions().items()
        if any(each.lower().replace("_", "-") in light for each in distributions)
    }
    assert "grpc" in allowed
    # When every module of the client is imported where all others are refused
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join({*allowed, "callsheet", "buf"})],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Then nothing is missing
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert "callsheet.client.testing.service" in modules
    assert "callsheet.client.cli.commands" in modules


def test_webhooks_are_verified_without_loading_the_wire() -> None:
    program = "import callsheet.client.webhooks, sys; sys.exit('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0
