"""Why an artifact could not be stored, read or deleted.

ArtifactStoreError
├── ArtifactNotFound
├── ArtifactTooLarge
└── KeyRefused
"""

import os
import re
from typing import Final

_OS_ERROR: Final = re.compile(r"\(os error (\d{1,5})\)", re.ASCII)
#: What an object store says of a refusal, within what its library says of it.
_S3_ERROR: Final = re.compile(r"<Code>([^<]{1,100})</Code>\s*(?:<Message>([^<]{0,200})</Message>)?")
_LONGEST_REASON: Final = 300


class ArtifactStoreError(Exception):
    """The store refused or failed; the message is one sentence for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ArtifactNotFound(ArtifactStoreError):
    """The store holds nothing under the key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no artifact {key}")
        self.key = key


class ArtifactTooLarge(ArtifactStoreError):
    """There are more bytes under the key than were wanted."""

    def __init__(self, key: str, limit: int) -> None:
        super().__init__(f"{key} has more than {limit} bytes")
        self.key, self.limit = key, limit


class KeyRefused(ArtifactStoreError):
    """A part of a key is not of the closed form that keys are made of."""

    def __init__(self, part: str, value: str) -> None:
        super().__init__(f"an artifact's {part} must not be {value[:80]!r}")
        self.part, self.value = part, value


def reason_of(error: BaseException) -> str:
    """Say in a few words why a store failed, from whatever its library raised."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    # object_store keeps the kernel's error number only in its text, followed by a debug dump.
    text = str(error)
    if found := _OS_ERROR.search(text):
        return os.strerror(int(found[1])).lower()
    if found := _S3_ERROR.search(text):
        return ": ".join(part for part in found.groups() if part)
    first_line = text.strip().partition("\n")[0]
    return first_line[:_LONGEST_REASON] or type(error).__name__
