"""The kinds of values that the brain's tools take, each with its limit."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints
from pydantic_core import to_json

#: A JSON object of a task: its spec, its output.
LARGEST_OBJECT_BYTES: Final = 1024 * 1024
LONGEST_TEXT: Final = 65_536

_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _instant(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or _RFC_3339.fullmatch(value) is None:
        raise ValueError("must be a time as in RFC 3339, such as 2027-03-01T12:00:00.000000Z")
    return datetime.fromisoformat(value.upper()).astimezone(UTC)


def _small(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    size = len(to_json(value))
    if size > LARGEST_OBJECT_BYTES:
        raise ValueError(f"must have at most {LARGEST_OBJECT_BYTES} bytes as JSON, not {size}")
    return value


def microseconds(time: datetime) -> int:
    """Return the microseconds since 1970 of an aware time."""
    return (time - _EPOCH_START) // _MICROSECOND


def instant(microseconds: int) -> str:
    """Return the time, so many microseconds after 1970, as RFC 3339 with microseconds and Z."""
    time = _EPOCH_START + microseconds * _MICROSECOND
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


Project = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$")]
Epoch = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
TaskId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
TaskType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
#: What one vector can stand for; the model reads the first 256 words of it or so.
Passage = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]
SomeText = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)]
Name = Annotated[str, StringConstraints(max_length=256)]
SomeName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Sequence = Annotated[int, Field(ge=1, le=2**31 - 1)]
AttemptNumber = Annotated[int, Field(ge=0, le=10_000)]
Limit = Annotated[int, Field(ge=1, le=50)]
LongLimit = Annotated[int, Field(ge=1, le=100)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_small)]
#: What stands as JSON in an answer: it was checked when it came in.
AnyObject = dict[str, Any]
