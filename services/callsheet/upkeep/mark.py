"""The high-water mark: how far the log had come, remembered outside the ledger's server."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from callsheet.ledger.position import Position

VERSION: Final = 1


class MarkUnreadable(Exception):
    """The file does not hold a mark of this version."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The log's epoch and end as they were last seen, and the epochs before that one."""

    epoch: str
    end: Position
    earlier_epochs: tuple[str, ...] = ()


class MarkFile:
    """Keeps one mark in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Mark | None:
        """Return the mark; None when there is no file yet.

        Raises:
            MarkUnreadable: the file holds something else.
            OSError: the file cannot be read.
        """
        try:
            fields = cast("dict[str, object]", json.loads(self._path.read_bytes()))
            if fields["version"] != VERSION:
                raise MarkUnreadable(f"{self._path} is of version {fields['version']}")
            earlier = cast("list[str]", fields["earlier_epochs"])
            return Mark(str(fields["epoch"]), Position.parse(str(fields["end"])), tuple(earlier))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise MarkUnreadable(f"{self._path} holds no mark: {error!r}") from error

    def save(self, mark: Mark) -> None:
        """Write the mark so that after a crash the file holds it, or the one before, whole.

        Raises:
            OSError: it could not be written.
        """
        content = {
            "version": VERSION,
            "epoch": mark.epoch,
            "end": str(mark.end),
            "earlier_epochs": mark.earlier_epochs,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Named by the process: two of them may share the folder while one takes over.
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with draft.open("wb") as file:
            file.write(json.dumps(content).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
