"""The types of settings: what each accepts, and the sentence it refuses with."""

import re
from datetime import timedelta
from ipaddress import ip_network
from math import isfinite
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from callsheet.brain.tools import tool_names

LONGEST_TEXT: Final = 1024
_DAY: Final = timedelta(days=1)


def _duration(value: object, *, unit: timedelta, word: str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        number = float(str(value))
        if isfinite(number):
            return number * unit
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"must be a number of {word}")


def _seconds(value: object) -> timedelta:
    return _duration(value, unit=timedelta(seconds=1), word="seconds")


def _days(value: object) -> timedelta:
    return _duration(value, unit=timedelta(days=1), word="days")


def _within(lowest: timedelta, highest: timedelta, *, wanted: str) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not lowest <= value <= highest:
            raise ValueError(f"must be {wanted}")
        return value

    return AfterValidator(check)


def _matching(pattern: str, *, wanted: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if len(text) > LONGEST_TEXT or compiled.fullmatch(text) is None:
            raise ValueError(f"must be {wanted}")
        return text

    return AfterValidator(check)


def _absolute(path: Path) -> Path:
    if not 0 < len(str(path)) <= LONGEST_TEXT or "\0" in str(path):
        raise ValueError(f"must be a path of at most {LONGEST_TEXT} characters")
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # ~somebody
        raise ValueError("must not begin with the home of a user who is not known here") from None


def _port_in_range(address: str) -> str:
    port = address.rpartition(":")[2]
    if port.isdecimal() and int(port) > 65535:
        raise ValueError("must end in a port from 0 to 65535")
    return address


def split_at_commas(value: object) -> object:
    """Return the parts of a text between its commas, without blanks; all else as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _seconds_at_commas(value: object) -> object:
    parts = split_at_commas(value)
    return tuple(_seconds(part) for part in parts) if isinstance(parts, tuple) else parts  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # pydantic gives an object


def _patient(waits: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    if not 1 <= len(waits) <= 32 or not all(timedelta() < wait <= _DAY for wait in waits):
        raise ValueError("must be 1 to 32 waits of more than 0 and at most 86400 seconds")
    return waits


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 64:
        raise ValueError("must name at most 64 queues")
    return names


def _few_entries(entries: tuple[str, ...]) -> tuple[str, ...]:
    if len(entries) > 64:
        raise ValueError("must be at most 64 of them")
    return entries


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("must be addresses or networks, such as 10.0.0.0/8") from None


def _long_enough(secret: SecretStr) -> SecretStr:
    if not 32 <= len(secret.get_secret_value()) <= LONGEST_TEXT:
        raise ValueError(f"must have 32 to {LONGEST_TEXT} characters")
    return secret


def _printable(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{LONGEST_TEXT}}}", secret.get_secret_value()):
        raise ValueError(f"must be 1 to {LONGEST_TEXT} printable characters without a space")
    return secret


def _known_tools(pairs: tuple[str, ...]) -> tuple[str, ...]:
    tool_names(pairs)
    return pairs


#: A folder or file, made absolute against the folder the process was started in.
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]

CellName = Annotated[
    str,
    _matching(
        r"[a-z0-9][a-z0-9-]{0,31}", wanted="1 to 32 of a-z, 0-9 and '-', not starting with '-'"
    ),
]

RedisUrl = Annotated[
    str,
    _matching(r"(redis|rediss|unix)://\S+", wanted="a URL of redis://, rediss:// or unix://"),
]

GrpcAddress = Annotated[
    str,
    _matching(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", wanted="host:port"),
    AfterValidator(_port_in_range),
]

#: Where to listen, or that nobody listens.
ListenAddress = Annotated[
    str,
    _matching(r"none|(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", wanted="host:port, or none"),
    AfterValidator(_port_in_range),
]

ArtifactsUrl = Annotated[
    str,
    _matching(r"file:///\S*|s3://[^\s/]+(/\S*)?", wanted="a URL of file:/// or s3://"),
]

PublicUrl = Annotated[
    str,
    _matching(r"(https?|s3)://[^\s/]\S*|file:///\S*", wanted="a URL of https://, http:// or file:"),
]

#: An origin with a path, if any: what requests are made to.
HttpUrl = Annotated[
    str,
    _matching(r"https?://[^\s/?#@]+(/[^\s?#]*)?", wanted="a URL of https:// or http://"),
]

#: A database that the plane names, and never dials; it may carry a user and password.
DatabaseUrl = Annotated[
    str,
    _matching(
        r"(bolt|neo4j|mongodb|https?)(\+(s|ssc|srv))?://[^\s]+",
        wanted="a URL of bolt://, neo4j://, mongodb:// or http(s)://",
    ),
]

#: The slug of a collection in PayloadCMS, or the name of a field.
PayloadName = Annotated[
    str, _matching(r"[A-Za-z][A-Za-z0-9_-]{0,63}", wanted="letters, digits, '_' and '-'")
]

S3Region = Annotated[str, _matching(r"[a-z0-9-]{1,64}", wanted="a region: a-z, 0-9 and '-'")]

#: A secret as another service made it; it goes into a header as it is.
GivenSecret = Annotated[SecretStr, AfterValidator(_printable)]

Device = Annotated[str, _matching(r"auto|cpu|cuda:[0-9]{1,2}", wanted="auto, cpu or cuda:<number>")]

QueueName = Annotated[
    str, _matching(r"[a-z][a-z0-9_-]{0,62}", wanted="names of queues: a-z, 0-9, '_', '-'")
]

#: Names of queues, separated by commas in the environment; none means all.
QueueNames = Annotated[
    tuple[QueueName, ...],
    NoDecode,
    BeforeValidator(split_at_commas),
    AfterValidator(_few),
]

LeaseDuration = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(seconds=1), timedelta(hours=1), wanted="1 to 3600 seconds"),
]

UpToAnHour = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(), timedelta(hours=1), wanted="0 to 3600 seconds"),
]

UpToADay = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(seconds=1), timedelta(days=1), wanted="1 to 86400 seconds"),
]

RetentionDuration = Annotated[
    timedelta,
    BeforeValidator(_days),
    _within(timedelta(days=2), timedelta(days=3650), wanted="2 to 3650 days"),
]

HealthInterval = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(milliseconds=100), timedelta(minutes=5), wanted="0.1 to 300 seconds"),
]

HeartbeatInterval = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(seconds=1), timedelta(minutes=5), wanted="1 to 300 seconds"),
]

ConversationDuration = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(minutes=1), timedelta(days=30), wanted="60 to 2592000 seconds"),
]

WebhookTimeLimit = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(seconds=1), timedelta(minutes=1), wanted="1 to 60 seconds"),
]

BrainWsUrl = Annotated[
    str, _matching(r"wss?://[^\s/@?#]+(/[^\s@#]*)?", wanted="a URL of ws:// or wss://")
]

BrainHttpUrl = Annotated[
    str, _matching(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", wanted="a URL of https:// or http://")
]

BrainTimeLimit = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(milliseconds=50), timedelta(minutes=5), wanted="0.05 to 300 seconds"),
]

#: No time at all is not to ask.
ContextBudget = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(0), timedelta(seconds=10), wanted="0 to 10 seconds"),
]

#: Names of the brain's tools where they are not ours: "ours=theirs,…" in the environment.
BrainTools = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(split_at_commas),
    AfterValidator(_known_tools),
]

PayloadTimeLimit = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(seconds=1), timedelta(minutes=10), wanted="1 to 600 seconds"),
]

#: Waits between tries, in seconds separated by commas in the environment.
RetrySchedule = Annotated[
    tuple[timedelta, ...],
    NoDecode,
    BeforeValidator(_seconds_at_commas),
    AfterValidator(_patient),
]

MasterKey = Annotated[SecretStr, AfterValidator(_long_enough)]

#: Origins of web pages: scheme, host and port, separated by commas in the environment.
Origins = Annotated[
    tuple[
        Annotated[
            str,
            _matching(
                r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?",
                wanted="origins such as https://app.example.com, in lower case, without a path",
            ),
        ],
        ...,
    ],
    NoDecode,
    BeforeValidator(split_at_commas),
    AfterValidator(_few_entries),
]

#: Addresses or networks of proxies, separated by commas in the environment.
ProxyAddresses = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...],
    NoDecode,
    BeforeValidator(split_at_commas),
    AfterValidator(_few_entries),
]

#: How long a ticket may be good for.
TicketDuration = Annotated[
    timedelta,
    BeforeValidator(_seconds),
    _within(timedelta(minutes=1), timedelta(hours=12), wanted="60 to 43200 seconds"),
]
