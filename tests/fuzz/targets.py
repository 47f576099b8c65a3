"""Every target by name."""

from typing import Final

from tests.fuzz import brains, calls, edges, pipes, stored, words
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for group in (
        brains.TARGETS,
        calls.TARGETS,
        stored.TARGETS,
        edges.TARGETS,
        pipes.TARGETS,
        words.TARGETS,
    )
    for target in group
}
