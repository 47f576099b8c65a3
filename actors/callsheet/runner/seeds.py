"""Seeds: where the random numbers of a task start, when its input does not say."""

import hashlib
from typing import Final

#: One past the largest seed: every seed of a task is exact in a JSON number.
SEEDS: Final = 2**53


def seed_of(task_id: str, *, count: int = 1) -> int:
    """Return a seed that nobody chose, the same in every attempt of the task.

    With the following ones there are *count* of them.
    """
    digest = hashlib.sha256(f"seed of {task_id}".encode()).digest()
    return int.from_bytes(digest) % (SEEDS - count + 1)
