"""Fetches the files that a task works on: those of its own project, from the artifact store."""

import re
from typing import IO, Final

from callsheet.artifacts.errors import ArtifactNotFound, ArtifactTooLarge, KeyRefused
from callsheet.artifacts.store import ArtifactStore
from callsheet.runner.context import HandlerFailure
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

_KEY: Final = re.compile(r"(?:^|/)(projects/([^/]+)/(?:tasks/[^/]+|uploads)/[^/]+)$")


class ProjectFiles:
    """The artifacts and uploads of one project."""

    def __init__(self, store: ArtifactStore, project: str) -> None:
        self._store = store
        self._project = project

    def fetch(self, uri: str, into: IO[bytes], most_bytes: int) -> None:
        """Write the file that a reference names.

        Raises HandlerFailure(INVALID_INPUT) when it is another project's, not there, or larger; and
        ArtifactStoreError when the store cannot tell.
        """
        found = _KEY.search(uri)
        if found is None or found[2] != self._project:
            raise _refused(uri, "is no file of the task's project")
        try:
            self._store.fetch(found[1], into, limit=most_bytes)
        except KeyRefused as error:
            raise _refused(uri, "is no file of the task's project") from error
        except ArtifactNotFound as error:
            raise _refused(uri, "is not there, or not any more") from error
        except ArtifactTooLarge as error:
            raise _refused(
                uri,
                f"has more than the {most_bytes} bytes that CALLSHEET_INPUT_LARGEST_BYTES leaves"
                " for it",
            ) from error


def _refused(uri: str, why: str) -> HandlerFailure:
    name = uri.rpartition("/")[2][:64]
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, f"the file {name} {why}")
