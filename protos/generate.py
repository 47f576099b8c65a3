"""Generate the Python modules of the contract into protos/gen, or into the folder given."""

import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
VENDORED = PROTOS.parent / "third_party" / "protovalidate"
PLUGINS = Path(sys.executable).parent  # the virtual environment may not be on the PATH


def generate(out: Path) -> None:
    """Replace what stands in *out* by freshly generated modules and their stubs.

    A contract that the compiler refuses ends the program and leaves *out* as it was.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".gen-") as folder:
        fresh = Path(folder, "gen")
        fresh.mkdir()
        _compile(fresh)
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)


def _compile(out: Path) -> None:
    sources = [*sorted((PROTOS / "callsheet").rglob("*.proto")), *sorted(VENDORED.rglob("*.proto"))]
    services = [source for source in sources if source.stem.endswith("_service")]
    roots = [f"-I{PROTOS}", f"-I{VENDORED}", f"-I{files('grpc_tools') / '_proto'}"]
    stubs = [f"--plugin={PLUGINS / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    _protoc(
        [*roots, *stubs, f"--python_out={out}", f"--mypy_out=readable_stubs,quiet:{out}"], sources
    )
    _protoc([*roots, *stubs, f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"], services)
    for package in {module.parent for module in out.rglob("*_pb2.py")}:
        (package / "py.typed").touch()


def _protoc(options: list[str], sources: list[Path]) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, *map(str, sources)]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("the protocol buffer compiler refused; its reasons stand above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS / "gen")
