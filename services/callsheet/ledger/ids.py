"""Where new ids and chances come from: a seam, so that tests can decide them."""

import secrets
from hashlib import sha256
from typing import Protocol


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
    """Makes them from the system's randomness."""

    def task_id(self) -> str:
        """Return a new task's id."""
        return _uuid(secrets.token_bytes(16), version=4)

    def operation(self) -> int:
        """Return a new write's id, positive and below 2^63."""
        return secrets.randbits(63) | 1

    def epoch(self) -> str:
        """Return a new epoch."""
        return secrets.token_hex(4)

    def jitter(self) -> float:
        """Return a chance in [0, 1)."""
        return secrets.randbits(53) / (1 << 53)


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
