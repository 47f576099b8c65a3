"""Values at the limits of a field's rules, and just beyond them, made from the rules themselves.

A rule that nobody here knows raises KeyError: its cases have to be written first.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, cast
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from buf.validate import validate_pb2
from tests.support.contract import UPLOAD, InputField, is_map

_SECOND: Final = 1_000_000_000
#: The seconds of the first and the last Timestamp there is.
_YEARS: Final = (-62_135_596_800, 253_402_300_799)


@dataclass(frozen=True)
class Case:
    """A value for a field, and whether it is within the rules; *path* names it where it is not.

    None as the value: the field is left out.
    """

    label: str
    value: Any
    is_good: bool
    path: str


@dataclass(frozen=True)
class Form:
    """Texts of a pattern: one of each length, and some that it does not take."""

    of_length: Callable[[int], str]
    bad: tuple[str, ...]


def _url(length: int) -> str:
    start = "https://example.com/"
    return start + "x" * (length - len(start))


def _reference(length: int) -> str:
    if length < len(UPLOAD):
        return UPLOAD[-length:]  # too short to be one, and refused for that
    return "x" * (length - len(UPLOAD) - 1) + "/" * (length > len(UPLOAD)) + UPLOAD


_NAMES: Final = ("-a", ".a", "../a", "A", "a/b", "a\n")

#: What the contract's patterns take and refuse.
FORMS: Final[Mapping[str, Form]] = {
    "": Form(lambda length: "ß" * length, ()),  # two bytes a character: characters are counted
    "^([a-zA-Z0-9][a-zA-Z0-9_-]*)?$": Form(
        lambda length: "p" * length, ("_a", "-a", "a/b", "a b", "ä", "a\n", "a:b", "{a}", "a\0")
    ),
    "^[a-zA-Z0-9][a-zA-Z0-9_-]*$": Form(
        lambda length: "p" * length, ("", "_a", "-a", "a/b", "a b", "ä", "a\n", "a:b", "{a}", "a\0")
    ),
    "^[!-~]+$": Form(lambda length: "~" * length, ("", " ", "a b", "\x7f", "ä", "a\n", "\t")),
    "^[a-z][a-z0-9_]*$": Form(lambda length: "t" * length, ("", "A", "1a", "a-b", "a\n")),
    "^[!-~]*$": Form(lambda length: "~" * length, (" ", "a b", "\x7f", "ä", "a\n", "\t")),
    "^([a-z][a-z0-9_]*)?$": Form(lambda length: "t" * length, ("A", "1a", "a-b", "a\n")),
    "^([a-z0-9][a-z0-9._-]*)?$": Form(lambda length: "m" * length, _NAMES),
    "^[a-z0-9][a-z0-9._-]*$": Form(lambda length: "m" * length, ("", *_NAMES)),
    "^([a-z]{2,3}(-[a-z0-9]+)*)?$": Form(
        lambda length: "en-" + "a" * (length - 3), ("e", "EN", "en-", "en_gb", "../en", "en\n")
    ),
    r"^([!-~]*/)?projects/[a-zA-Z0-9][a-zA-Z0-9_-]*/(tasks/[0-9a-f-]{36}/[1-9][0-9]*-|uploads/)"
    r"[0-9a-f]{32}\.[a-z0-9]+$": Form(
        _reference,
        (
            "",
            "/etc/passwd",
            "https://example.com/a.png",
            f"{UPLOAD}\n",
            f" {UPLOAD}",
            f"{UPLOAD}/..",
            UPLOAD.replace("default", ".."),
            UPLOAD.replace("uploads", "uploads/.."),
            UPLOAD.replace("uploads", "secrets"),
            UPLOAD.replace("0", "g"),
            UPLOAD.replace("0", "A"),
        ),
    ),
    r"^https?://[^\s/?#]+([/?#]\S*)?$": Form(
        _url, ("", "https://", "https:///x", "ftp://a/", "https://a b/", "https://a/\n", "//a")
    ),
}

#: The id of a rule in CEL ends in the number that all good ones are multiples of.
_MULTIPLE: Final = re.compile(r"\.multiple_of_(\d+)$")

_NOT_UUIDS: Final = (
    "x",
    "00000000-0000-4000-8000-00000000000",
    "00000000-0000-4000-8000-0000000000000",
    "00000000-0000-4000-8000-00000000000g",
    "00000000000040008000000000000000",
    "{00000000-0000-4000-8000-000000000000}",
    "00000000-0000-4000-8000-000000000000\n",
)


def rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """Return the field's rules; an empty message when it has none."""
    return cast(
        "validate_pb2.FieldRules", cast("Any", field.GetOptions()).Extensions[validate_pb2.field]
    )


def cases_of(place: InputField) -> list[Case]:
    """Return every case of the field's rules. Raises KeyError for a rule that has none here."""
    rules = rules_of(place.field)
    found = list(_when_left_out(place, rules))
    for rule, value in listed(rules):
        found += _KINDS[rule](place, value, rules)
    if not listed(rules) and place.field.message_type is not None and not place.is_nested:
        found += _UNRULED[place.field.message_type.full_name](place)
    return found


def listed(rules: object) -> list[tuple[str, Any]]:
    """Return (name, value) of each rule that is set."""
    fields = cast("list[tuple[FieldDescriptor, Any]]", cast("Any", rules).ListFields())
    return [(field.name, value) for field, value in fields]


def _when_left_out(place: InputField, rules: validate_pb2.FieldRules) -> Iterator[Case]:
    if rules.required:
        yield Case("left out", None, is_good=False, path=place.path)


def _texts(place: InputField, rules: Message, _: Message) -> Iterator[Case]:
    told = cast("validate_pb2.StringRules", rules)
    for label, text, is_good in _text_cases(told):
        yield Case(label, text, is_good=is_good, path=place.path)


def _text_cases(rules: validate_pb2.StringRules) -> Iterator[tuple[str, str, bool]]:
    """Yield (label, text, whether it is good)."""
    form = FORMS[rules.pattern]
    for rule, value in listed(rules):
        match rule:
            case "max_len":
                yield f"{value - 1} characters", form.of_length(value - 1), True
                yield f"{value} characters", form.of_length(value), True
                yield f"{value + 1} characters", form.of_length(value + 1), False
            case "min_len":
                yield f"{value} characters", form.of_length(value), True
                yield f"{value - 1} characters", form.of_length(value - 1), False
            case "pattern":
                yield from ((repr(text), text, False) for text in form.bad)
            case "uuid":
                yield from ((repr(text), text, False) for text in _NOT_UUIDS)
            case other:
                raise KeyError(other)


def _numbers(place: InputField, rules: Message, all_rules: Message) -> Iterator[Case]:
    step = 1
    for rule in cast("validate_pb2.FieldRules", all_rules).cel:
        step = _step(rule)
    for rule, value in listed(rules):
        if rule == "finite":
            for odd in (math.nan, math.inf, -math.inf):
                yield Case(str(odd), odd, is_good=False, path=place.path)
            continue
        sign = {"lte": 1, "gte": -1}[rule]
        yield Case(f"{value}", value, is_good=True, path=place.path)
        for factor in (-sign, sign):
            near = _near(place.field, value, factor * step)
            if near >= 0 or place.field.type == FieldDescriptor.TYPE_FLOAT:
                yield Case(f"{near}", near, is_good=factor != sign, path=place.path)


def _near(field: FieldDescriptor, value: float, step: int) -> float:
    """Return the next value in that direction; of a float32 the nearest there is."""
    if field.type != FieldDescriptor.TYPE_FLOAT:
        return value + step
    if value == 0:
        return math.copysign(2.0**-149, step)
    upwards = step if value > 0 else -step  # the bits of negative numbers grow downwards
    bits = struct.unpack("<i", struct.pack("<f", value))[0] + upwards
    return struct.unpack("<f", struct.pack("<i", bits))[0]


def _step(rule: validate_pb2.Rule) -> int:
    found = _MULTIPLE.search(rule.id)
    if found is None:
        raise KeyError(rule.id)
    return int(found[1])


def _steps(place: InputField, rules: object, _: Message) -> Iterator[Case]:
    for rule in cast("list[validate_pb2.Rule]", rules):
        step = _step(rule)
        yield Case(f"{8 * step}", 8 * step, is_good=True, path=place.path)
        yield Case(f"{8 * step + 1}", 8 * step + 1, is_good=False, path=place.path)


def _durations(place: InputField, rules: Message, _: Message) -> Iterator[Case]:
    for rule, limit in listed(rules):
        sign = {"lte": 1, "gte": -1}[rule]
        nanos = cast("Duration", limit).seconds * _SECOND + cast("Duration", limit).nanos
        for offset in (-sign, 0, sign):
            label = f"{nanos + offset} ns"
            value = _duration(nanos + offset)
            yield Case(label, value, is_good=offset != sign, path=place.path)
    # What the message itself does not mean, though its seconds may be within the rules.
    for seconds, nanos in ((2, _SECOND), (2, -1), (0, 2**31 - 1), (-1, 1)):
        value = Duration(seconds=seconds, nanos=nanos)
        yield Case(f"{seconds} s {nanos} ns", value, is_good=False, path=place.path)


def _duration(nanos: int) -> Duration:
    """Return the duration; protobuf's seconds and nanos have the same sign."""
    sign = -1 if nanos < 0 else 1
    seconds, rest = divmod(abs(nanos), _SECOND)
    return Duration(seconds=sign * seconds, nanos=sign * rest)


def _timestamps(place: InputField) -> Iterator[Case]:
    first, last = _YEARS
    for seconds, nanos, is_good in (
        (first, 0, True),
        (first - 1, 0, False),
        (last, _SECOND - 1, True),
        (last + 1, 0, False),
        (0, 0, True),
        (0, -1, False),
        (0, _SECOND, False),
        (2**63 - 1, 0, False),
        (-(2**63), 0, False),
    ):
        value = Timestamp(seconds=seconds, nanos=nanos)
        yield Case(f"{seconds} s {nanos} ns", value, is_good=is_good, path=place.path)


def _enums(place: InputField, rules: Message, _: Message) -> Iterator[Case]:
    known = _numbers_of(place.field)
    names = {rule for rule, _ in listed(rules)}
    if names - {"defined_only"}:
        raise KeyError(names)
    for number in known:
        yield Case(f"{number}", number, is_good=True, path=place.path)
    for number in (known[-1] + 1, -1, 2**31 - 1):
        yield Case(f"{number}", number, is_good=False, path=place.path)


def _numbers_of(field: FieldDescriptor) -> list[int]:
    kind = field.enum_type
    return [] if kind is None else sorted(kind.values_by_number)


def _lists(place: InputField, rules: Message, _: Message) -> Iterator[Case]:
    told = cast("validate_pb2.RepeatedRules", rules)
    if {rule for rule, _ in listed(told)} - {"min_items", "max_items", "unique", "items"}:
        raise KeyError(place.path)
    if place.is_nested:
        for many in (told.max_items - 1, told.max_items, told.min_items):
            yield Case(f"{many} items", many, is_good=True, path=place.path)
        for many in (told.min_items - 1, told.max_items + 1):
            if many >= 0:
                yield Case(f"{many} items", many, is_good=False, path=place.path)
        return
    if told.items.HasField("string"):
        yield from _text_lists(place, told)
        return
    known = sorted(set(_numbers_of(place.field)) - set(told.items.enum.not_in))
    yield Case("each once", known[: told.max_items], is_good=True, path=place.path)
    many = (known * told.max_items)[: told.max_items + 1]
    yield Case(f"{told.max_items + 1} items", many, is_good=False, path=place.path)
    yield Case("one twice", known[:1] * 2, is_good=False, path=place.path)
    for odd in (*told.items.enum.not_in, known[-1] + 1, -1):
        yield Case(f"an item {odd}", [odd], is_good=False, path=f"{place.path}[0]")


def _text_lists(place: InputField, told: validate_pb2.RepeatedRules) -> Iterator[Case]:
    one = _good_texts(told.items.string)
    texts = [next(one) for _ in range(told.max_items + 1)]
    yield Case(f"{told.max_items} items", texts[:-1], is_good=True, path=place.path)
    yield Case(f"{told.max_items + 1} items", texts, is_good=False, path=place.path)
    yield Case("one twice", texts[:1] * 2, is_good=False, path=place.path)
    for label, text, is_good in _text_cases(told.items.string):
        path = place.path if is_good else f"{place.path}[0]"
        yield Case(f"an item of {label}", [text], is_good=is_good, path=path)


def _good_texts(rules: validate_pb2.StringRules) -> Iterator[str]:
    """Yield texts that the rules take, no two alike."""
    start = FORMS[rules.pattern].of_length(1)
    for number in count():
        yield str(UUID(int=number)) if rules.uuid else f"{start}{number}"


def _maps(place: InputField, rules: Message, _: Message) -> Iterator[Case]:
    told = cast("validate_pb2.MapRules", rules)
    if {rule for rule, _ in listed(told)} - {"max_pairs", "keys", "values"}:
        raise KeyError(place.path)
    for many in (told.max_pairs - 1, told.max_pairs, told.max_pairs + 1):
        pairs = {f"k{number}": "v" for number in range(many)}
        is_good = many <= told.max_pairs
        yield Case(f"{many} pairs", pairs, is_good=is_good, path=place.path)
    for label, key, is_good in _text_cases(told.keys.string):
        shown = key if len(key) <= 64 else f"{key[:64]}…"
        path = f'{place.path}["{shown}"]'
        yield Case(f"a key of {label}", {key: "v"}, is_good=is_good, path=path)
    for label, value, is_good in _text_cases(told.values.string):
        path = f'{place.path}["k"]'
        yield Case(f"a value of {label}", {"k": value}, is_good=is_good, path=path)


def _none(*_: object) -> Iterator[Case]:
    yield from ()


_KINDS: Final[Mapping[str, Callable[..., Iterator[Case]]]] = {
    "cel": _steps,
    "duration": _durations,
    "enum": _enums,
    "float": _numbers,
    "ignore": _none,
    "map": _maps,
    "repeated": _lists,
    "required": _none,
    "string": _texts,
    "uint32": _numbers,
    "uint64": _numbers,
}
_UNRULED: Final[Mapping[str, Callable[[InputField], Iterator[Case]]]] = {
    Timestamp.DESCRIPTOR.full_name: _timestamps,
}


def is_limited(place: InputField) -> bool:
    """Whether something limits the field: rules, the fields in it, or what its message means."""
    message = place.field.message_type
    ruled = bool(listed(rules_of(place.field)))
    return ruled or (message is not None and (not is_map(place.field)))
