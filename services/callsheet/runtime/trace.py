"""W3C trace context: who caused what, carried as `traceparent` through every hop."""

import re
import secrets
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

#: The name of the header, and of the gRPC metadata key.
TRACEPARENT: Final = "traceparent"

_SAMPLED: Final = 0x01
#: Longer than any id, in hexadecimal digits.
_DIGITS: Final = 32
#: Ids drawn at once: a system call is dear, and every hop needs one.
_DRAWN_AHEAD: Final = 128
_drawn: Final[deque[str]] = deque()
_LONGEST: Final = 512
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<span_id>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?",
    re.ASCII,
)


@dataclass(frozen=True)
class TraceContext:
    """One span of one trace: ids in lower-case hexadecimal, and whether its caller recorded it."""

    trace_id: str
    span_id: str
    sampled: bool

    def child(self) -> "TraceContext":
        """Return a new span of the same trace."""
        return replace(self, span_id=_new_id(8))

    def __str__(self) -> str:
        """Return the traceparent, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def new_trace(*, sampled: bool = False) -> TraceContext:
    """Return the root of a new trace."""
    return TraceContext(_new_id(16), _new_id(8), sampled)


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Return what a traceparent says, or None when it is absent or invalid.

    A version this code does not know is read as far as version 00 goes, as the standard asks.
    """
    if not text or len(text) > _LONGEST:
        return None
    found = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return None
    if not found["trace_id"].strip("0") or not found["span_id"].strip("0"):
        return None
    sampled = bool(int(found["flags"], 16) & _SAMPLED)
    return TraceContext(found["trace_id"], found["span_id"], sampled)


def continue_trace(text: str | None) -> TraceContext:
    """Return a child of the traceparent, or a new root when it is absent or invalid."""
    parent = parse_traceparent(text)
    return parent.child() if parent is not None else new_trace()


def _new_id(length: int) -> str:
    # All zeros means "no id" in the standard; the chance of it is real only on paper.
    while True:
        try:
            return _drawn.pop()[: 2 * length]
        except IndexError:
            digits = secrets.token_hex(_DRAWN_AHEAD * _DIGITS // 2)
            _drawn.extend(digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS))
