"""Generate the Python modules of the contract into protos/gen (or another folder, named as argument)."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
VENDORED = PROTOS.parent / "third_party" / "protovalidate"


def generate(out: Path) -> None:
    """Replace what stands in *out* by freshly generated modules and their stubs."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    sources = [*sorted((PROTOS / "callsheet").rglob("*.proto")), *sorted(VENDORED.rglob("*.proto"))]
    services = [source for source in sources if source.stem.endswith("_service")]
    roots = [f"-I{PROTOS}", f"-I{VENDORED}", f"-I{files('grpc_tools') / '_proto'}"]
    run([*roots, f"--python_out={out}", f"--mypy_out=readable_stubs:{out}"], sources)
    run([*roots, f"--grpc_python_out={out}", f"--mypy_grpc_out={out}"], services)
    for package in {module.parent for module in out.rglob("*_pb2.py")}:
        (package / "py.typed").touch()


def run(options: list[str], sources: list[Path]) -> None:
    """Run the protocol buffer compiler once; end the program when it refuses."""
    arguments = ["protoc", *options, *map(str, sources)]
    if protoc.main(arguments) != 0:
        sys.exit("the protocol buffer compiler refused; its reasons stand above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS / "gen")
