"""The names of artifacts: made of ids and digests only, never of anybody's words."""

import re
from collections.abc import Mapping
from typing import Final

from callsheet.artifacts.errors import KeyRefused

DIGEST_DIGITS: Final = 32

_PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "project": re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}"),
    "task id": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "suffix": re.compile(r"[a-z0-9]{1,10}"),
    "media type": re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,126}"),
    "key": re.compile(
        r"projects/[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}/tasks/[0-9a-f-]{36}"
        rf"/[1-9][0-9]{{0,9}}-[0-9a-f]{{{DIGEST_DIGITS}}}\.[a-z0-9]{{1,10}}"
    ),
    "upload": re.compile(
        r"projects/[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}/uploads"
        rf"/[0-9a-f]{{{DIGEST_DIGITS}}}\.[a-z0-9]{{1,10}}"
    ),
}


def require(part: str, value: str) -> str:
    """Return the value; raises KeyRefused when it is not of the part's closed form."""
    if not _PATTERNS[part].fullmatch(value):
        raise KeyRefused(part, value)
    return value


def fits(part: str, value: str) -> bool:
    """Tell whether the value is of the part's closed form."""
    return _PATTERNS[part].fullmatch(value) is not None


def project_folder(project: str) -> str:
    """Return where the folders of a project's tasks are."""
    return f"projects/{require('project', project)}/tasks"


def task_folder(project: str, task_id: str) -> str:
    """Return where the artifacts of one task are."""
    return f"{project_folder(project)}/{require('task id', task_id)}"


def upload_key(project: str, *, sha256: str, suffix: str) -> str:
    """Return the name of what a client brought itself: the same bytes have the same one."""
    name = f"{sha256[:DIGEST_DIGITS]}.{require('suffix', suffix)}"
    return f"projects/{require('project', project)}/uploads/{name}"


def require_readable(key: str) -> str:
    """Return the key of an artifact or an upload; raises KeyRefused when it is neither's."""
    return key if fits("upload", key) else require("key", key)


def artifact_key(project: str, task_id: str, *, attempt: int, sha256: str, suffix: str) -> str:
    """Return the name of one artifact: another attempt or other bytes have another one."""
    if attempt < 1:
        raise KeyRefused("attempt", str(attempt))
    folder = task_folder(project, task_id)
    return f"{folder}/{attempt}-{sha256[:DIGEST_DIGITS]}.{require('suffix', suffix)}"
