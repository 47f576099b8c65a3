"""The settings of retries: how long tasks wait between their attempts, by queue."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from callsheet.runtime.setting_types import split_at_commas

_MOST_WAITS: Final = 16
_DAY_SECONDS: Final = 86_400.0
_WAIT: Final = re.compile(r"\d{1,5}(\.\d{1,6})?")


def waits_by_queue(entries: tuple[str, ...]) -> Mapping[str, tuple[timedelta, ...]]:
    """Return the waits of each queue; an entry is "queue=wait:wait:…", in seconds.

    Raises ValueError with what is wrong, in words.
    """
    found: dict[str, tuple[timedelta, ...]] = {}
    for entry in entries:
        queue, _, waits = entry.partition("=")
        parts = waits.split(":")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", queue) or len(parts) > _MOST_WAITS:
            raise ValueError(f"must be queue=wait:wait, such as gpu=120:240, {_MOST_WAITS} at most")
        if not all(_WAIT.fullmatch(part) and float(part) <= _DAY_SECONDS for part in parts):
            raise ValueError(f"must have waits of 0 to 86400 seconds for {queue}")
        if queue in found:
            raise ValueError(f"must name {queue} once")
        found[queue] = tuple(timedelta(seconds=float(part)) for part in parts)
    return found


def _readable(entries: tuple[str, ...]) -> tuple[str, ...]:
    if len(entries) > 64:
        raise ValueError("must name at most 64 queues")
    waits_by_queue(entries)
    return entries


#: Waits by queue: "gpu=120:240,system=1:2:4" in the environment.
RetryWaits = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(split_at_commas),
    AfterValidator(_readable),
]


class RetrySettings(BaseSettings):
    """The part of the settings that is about retries."""

    retry_waits: RetryWaits = Field(
        default=(),
        validation_alias="CALLSHEET_RETRY_SECONDS",
        description="Waits before the attempts after the first, in seconds, by queue, such as"
        " gpu=120:240,system=1:2:4; the last one repeats. Unset: as the task types say.",
    )

    @property
    def waits_by_queue(self) -> Mapping[str, tuple[timedelta, ...]]:
        """The waits of each queue that has some of its own."""
        return waits_by_queue(self.retry_waits)
