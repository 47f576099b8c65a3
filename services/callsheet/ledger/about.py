"""What a task is about: the words of its spec by which it is found again.

The contract marks them with the option `about`. An input that marks nothing is read by a rule that
fits task types nobody has thought of yet: every string that people would write, in the order of
the fields. What is told by name alone to be none is passed over (identifiers, addresses, names of
models, what is to be avoided), and so is a value that is an address or has no letter.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from callsheet.tasks.v1 import options_pb2

#: The most characters that are taken.
LONGEST_WORDS: Final = 4096
#: Messages within messages that are looked into.
_DEPTH: Final = 4

#: Last words of the names of fields whose strings are not for reading.
_NOT_WORDS: Final = re.compile(
    "checksum|codec|device|digest|encoding|engine|extension|file|filename|folder|format|hash|host"
    "|ids?|kind|keys?|language|locale|mode|model|namespace|path|pattern|preset|provider|revision"
    "|role|sampler|scheduler|secret|seed|sha256|suffix|timezone|token|type|ur[il]s?|uuid|version"
    "|voice"
)
#: First words of the names of fields that say what is not wanted.
_UNWANTED: Final = frozenset({"avoid", "bad", "exclude", "excluded", "negative", "stop", "without"})
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*|data:\S+")
_LETTER: Final = re.compile(r"[^\W\d_]")


def words_of(spec: Message) -> str:
    """Return what the spec, or any message of it, is about; empty: it has no words.

    At most 4,096 characters; the words of each field stand in lines of their own.
    """
    words = "\n".join(_words(spec, marked=_marks(spec.DESCRIPTOR), depth=_DEPTH))
    return words[:LONGEST_WORDS]


def _words(message: Message, *, marked: bool, depth: int) -> Iterator[str]:
    for field, value in cast("list[tuple[FieldDescriptor, object]]", message.ListFields()):
        if field.type == FieldDescriptor.TYPE_STRING:
            if _is_about(field) if marked else _may_be_words(field):
                yield from filter(_is_readable, _strings(field, value))
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth:
            for part in _parts(field, value, marked=marked):
                if isinstance(part, str):
                    yield from filter(_is_readable, [part])
                else:
                    inner = _marks(part.DESCRIPTOR)
                    yield from _words(part, marked=inner or marked, depth=depth - 1)


def _strings(field: FieldDescriptor, value: object) -> Iterable[str]:
    return cast("Iterable[str]", value) if field.is_repeated else [cast("str", value)]


def _parts(field: FieldDescriptor, value: object, *, marked: bool) -> Iterator[Message | str]:
    """Yield the messages of a field, or the texts of a map whose name and keys allow it."""
    if not field.is_repeated:
        yield cast("Message", value)
    elif field.message_type is None or not field.message_type.GetOptions().map_entry:
        yield from cast("Iterable[Message]", value)
    else:
        entries = cast("Mapping[str | int, object]", value)
        taken = _is_about(field) if marked else _may_be_words(field)
        for key in sorted(entries, key=str):
            entry = entries[key]
            is_named = taken and (marked or not isinstance(key, str) or _name_allows(key))
            if isinstance(entry, Message) or (isinstance(entry, str) and is_named):
                yield entry


@lru_cache(maxsize=1024)
def _marks(message: Descriptor) -> bool:
    """Whether any field of the message itself is marked."""
    return any(_is_about(field) for field in message.fields)


def _is_about(field: FieldDescriptor) -> bool:
    return field.GetOptions().Extensions[options_pb2.about]


@lru_cache(maxsize=4096)
def _may_be_words(field: FieldDescriptor) -> bool:
    options = field.GetOptions()
    return not options.Extensions[options_pb2.model] and _name_allows(field.name)


def _name_allows(name: str) -> bool:
    parts = name.lower().split("_")
    return parts[0] not in _UNWANTED and _NOT_WORDS.fullmatch(parts[-1]) is None


def _is_readable(text: str) -> bool:
    return _LETTER.search(text) is not None and _ADDRESS.fullmatch(text.strip()) is None
