"""Where new ids and chances come from: a seam, so that tests can decide them."""

import secrets
from hashlib import sha256
from typing import Final, Protocol

#: Random bytes drawn at once.
DRAWN_AHEAD: Final = 4096


class Ids(Protocol):
    """Makes what must not repeat."""

    def task_id(self) -> str:
        """Return a new task's id."""
        ...

    def operation(self) -> int:
        """Return a new write's id, positive and below 2^63."""
        ...

    def epoch(self) -> str:
        """Return a new epoch."""
        ...

    def jitter(self) -> float:
        """Return a chance in [0, 1)."""
        ...


class RandomIds:
    """Makes them from the system's randomness, drawn a little ahead: a system call is dear."""

    def __init__(self) -> None:
        self._drawn = b""
        self._used = 0

    def task_id(self) -> str:
        """Return a new task's id."""
        return _uuid(self._bytes(16), version=4)

    def operation(self) -> int:
        """Return a new write's id, positive and below 2^63."""
        return int.from_bytes(self._bytes(8)) >> 1 | 1

    def epoch(self) -> str:
        """Return a new epoch."""
        return self._bytes(4).hex()

    def jitter(self) -> float:
        """Return a chance in [0, 1)."""
        return (int.from_bytes(self._bytes(8)) >> 11) / (1 << 53)

    def _bytes(self, count: int) -> bytes:
        start, self._used = self._used, self._used + count
        if self._used > len(self._drawn):
            self._drawn, start, self._used = secrets.token_bytes(DRAWN_AHEAD), 0, count
        return self._drawn[start : self._used]


def requested_task_id(project: str, request_id: str) -> str:
    """Return the id of the task that a request makes, the same each time it is made.

    The id is the idempotency record: it lives as long as the task does, with no key of its own.
    """
    digest = sha256(f"{project}\0{request_id}".encode()).digest()
    return _uuid(digest[:16], version=5)


def _uuid(content: bytes, *, version: int) -> str:
    """Return the UUID of RFC 9562 with these bits; uuid.UUID takes three times as long."""
    digits = content.hex()
    variant = "89ab"[content[8] & 3]
    head = f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}"
    return f"{head}-{variant}{digits[17:20]}-{digits[20:]}"
