"""Why the brain refuses: the reasons, for machines, and sentences, for people."""

from enum import StrEnum


class Reason(StrEnum):
    """What kind of refusal it is."""

    INVALID_INPUT = "INVALID_INPUT"
    UNKNOWN_TOOL = "UNKNOWN_TOOL"
    LIMIT_REACHED = "LIMIT_REACHED"
    BUSY = "BUSY"
    INTERNAL = "INTERNAL"


class BrainRefused(Exception):
    """A call changed nothing and has no answer; asking again helps only after BUSY."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class GraphUnavailable(Exception):
    """The graph's folder cannot be opened: another process has it, or it is another version's."""


class ModelMissing(Exception):
    """The weights of the embedding model are not installed."""
