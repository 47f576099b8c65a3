"""Why the brain did not do it.

BrainError
├── BrainUnavailable     it is not connected, was lost in mid-call, or took too long: try later
├── BrainRefused         it answered, and said no
├── ToolNotOffered       it has no such tool
├── AnswerMalformed      it answered what the tool cannot mean
└── MessageTooLarge      the call is larger than a message may be
"""


class BrainError(Exception):
    """The brain did not do what was asked, or nobody knows whether it did."""


class BrainUnavailable(BrainError):
    """The brain is not there now. A call that was on its way may have been executed.

    *was_sent* says whether it may have been: the brain was there when the call began.
    """

    def __init__(self, reason: str, *, was_sent: bool = False) -> None:
        super().__init__(reason)
        self.was_sent = was_sent


#: Reasons that have nothing to do with what was asked.
_PASSING = frozenset({"BUSY", "FULL"})


class BrainRefused(BrainError):
    """The brain answered with an error; *message* has its own words, at most 500 characters.

    *reason* is one word for machines, where the brain gives one.
    """

    def __init__(self, tool: str, message: str, *, reason: str = "") -> None:
        self.tool, self.message, self.reason = tool, message[:500], reason[:100]
        super().__init__(f"the brain refused {tool}: {self.message}")

    @property
    def is_passing(self) -> bool:
        """Whether the same may be taken later, because the brain has no room for it now."""
        return self.reason in _PASSING

    @property
    def is_its_own_failure(self) -> bool:
        """Whether the brain failed, by its own word: what was asked may be the cause, or not."""
        return self.reason == "INTERNAL"


class ToolNotOffered(BrainError):
    """The brain lists no such tool, or the settings say that it has none."""

    def __init__(self, tool: str) -> None:
        super().__init__(f"the brain has no tool {tool}")
        self.tool = tool


class AnswerMalformed(BrainError):
    """The brain's answer is not one that the tool has."""

    def __init__(self, tool: str, problem: str) -> None:
        super().__init__(f"the brain's answer to {tool} is malformed: {problem}")
        self.tool, self.problem = tool, problem


class MessageTooLarge(BrainError):
    """The message was not sent: it is of *size* bytes, and may be of *limit*."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size} bytes is larger than the {limit} it may have")
        self.size, self.limit = size, limit
