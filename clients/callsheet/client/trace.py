"""The W3C trace context that every call carries, so that one id leads through the whole plane."""

from __future__ import annotations

import re
import secrets
from typing import Final

_TRACE_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def new_trace_parent() -> str:
    """Return a ``traceparent`` that starts a trace, not sampled: this client records no spans."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def checked_trace_parent(trace_parent: str | None) -> str:
    """Return the given ``traceparent``, or a new one for None.

    Raises ValueError when the given one is not of the W3C form.
    """
    if trace_parent is None:
        return new_trace_parent()
    if not _TRACE_PARENT.fullmatch(trace_parent):
        raise ValueError(f"not a W3C traceparent: {trace_parent!r}")
    return trace_parent
