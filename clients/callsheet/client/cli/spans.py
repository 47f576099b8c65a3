"""Spans of time as people write them."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Final

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_span(text: str) -> timedelta:
    """Return ``90``, ``90s``, ``1.5m``, ``200ms`` or ``1h30m`` as a timedelta.

    Raises argparse.ArgumentTypeError, which argparse tells as an error of usage.
    """
    try:
        if _NUMBER.fullmatch(text):
            return timedelta(seconds=float(text))
        if _WHOLE.fullmatch(text):
            parts = (float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
            return sum(parts, timedelta(0))
    except OverflowError:
        pass
    raise argparse.ArgumentTypeError(f"not a span of time such as 90s, 1.5m or 1h30m: {text!r}")


def show_span(span: timedelta) -> str:
    """Return a timedelta as people read it, such as ``1h 30m`` or ``2.5s``."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return " ".join(f"{number:g}{unit}" for number, unit in parts if number)
