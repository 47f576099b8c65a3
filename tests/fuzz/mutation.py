"""Inputs for a target: mutations of its corpus, and messages made from their descriptors."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck
from hypothesis import strategies as st

from tests.fuzz.target import Target

#: Bytes that decoders trip over: ends of varints, lengths, quotes, digits, separators, UTF-8.
_ODD: Final[Sequence[bytes]] = (
    *(b"", b"\0", b"\x7f", b"\x80", b"\xff", b"\xff" * 4, b"\xff" * 9 + b"\x01", b"\0" * 8),
    *(b"-1", b"0", b"1e999", b"NaN", b"9" * 30, b"9" * 5000, "\u0663".encode(), b"\xc3\x28"),
    *(b'"', b"\\", b"{", b"[" * 300, b"]", b"null", b"\r\n", b"\n", b" ", b"%00", b"%s", b"/../"),
    *(b"\xed\xa0\x80", "\U0001f3ac".encode(), "\u202e".encode(), b"@", b":", b"#", b"?", b"="),
)
_DEEPEST: Final = 3
#: Inputs are large, some are slow, and all of that is meant.
UNHURRIED: Final = (
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
    HealthCheck.too_slow,
)
_NUMBERS: Final = (0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63))


def inputs(target: Target, corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return what the target is given: mostly what is nearly right."""
    kinds = [_mutated(corpus), st.binary(max_size=256)]
    kinds += [_encoded(prefix, message) for prefix, message in target.messages]
    return st.one_of(kinds)


@st.composite
def _mutated(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    content = draw(st.sampled_from(corpus))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 16)))
        match draw(st.sampled_from(("cut", "odd", "flip", "repeat", "splice", "end"))):
            case "cut":
                content = content[:start] + content[end:]
            case "odd":
                content = content[:start] + draw(st.sampled_from(_ODD)) + content[end:]
            case "flip" if start < len(content):
                flipped = content[start] ^ (1 << draw(st.integers(0, 7)))
                content = content[:start] + bytes((flipped,)) + content[start + 1 :]
            case "repeat":
                content = content[:end] + content[start:end] * draw(st.integers(1, 64))
            case "splice":
                other = draw(st.sampled_from(corpus))
                content = content[:start] + other[draw(st.integers(0, len(other))) :]
            case _:
                content = content[:start]
    return content


def _encoded(prefix: bytes, kind: type[Message]) -> st.SearchStrategy[bytes]:
    return messages(kind).map(lambda message: prefix + message.SerializeToString())


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return messages whose fields hold what their types allow, whatever it means."""
    return _messages(kind, 0)


@cache
def _messages(kind: type[Message], depth: int) -> st.SearchStrategy[Message]:
    fields = list(cast("list[FieldDescriptor]", kind.DESCRIPTOR.fields))

    @st.composite
    def made(draw: st.DrawFn) -> Message:
        message = kind()
        chosen = draw(st.lists(st.sampled_from(fields), max_size=6, unique=True)) if fields else []
        for field in chosen:
            value = _values(field, depth)
            if value is not None:
                _put(message, field, draw(value))
        return message

    return made()


def _put(message: Message, field: FieldDescriptor, value: Any) -> None:  # noqa: ANN401  # whatever the field's type is
    held = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for entry in value:
            if field.message_type.fields_by_name["value"].message_type is None:
                held[entry.key] = entry.value
            else:
                held[entry.key].CopyFrom(entry.value)
    elif field.is_repeated:
        held.extend(value)
    elif field.message_type is not None:
        held.CopyFrom(value)
    else:
        setattr(message, field.name, value)


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any] | None:
    if field.message_type is not None:
        if depth == _DEEPEST:
            return None
        each = _messages(GetMessageClass(field.message_type), depth + 1)
    else:
        each = _SCALARS[field.cpp_type](field)
    return st.lists(each, max_size=3) if field.is_repeated else each


def _whole(lowest: int, highest: int) -> st.SearchStrategy[int]:
    odd = [number for number in _NUMBERS if lowest <= number <= highest]
    return st.one_of(st.sampled_from([*odd, highest]), st.integers(lowest, highest))


def _texts() -> st.SearchStrategy[str]:
    odd = ("", "x", "default", "ß", "\0", "a/b", "-", "file:///x.png", "x" * 300)
    return st.one_of(st.sampled_from(odd), st.uuids().map(str), st.text(max_size=20))


_F: Final = FieldDescriptor
_SCALARS: Final[dict[int, Callable[[FieldDescriptor], st.SearchStrategy[Any]]]] = {
    _F.CPPTYPE_BOOL: lambda _: st.booleans(),
    _F.CPPTYPE_DOUBLE: lambda _: st.floats(),
    _F.CPPTYPE_ENUM: lambda field: st.one_of(
        st.sampled_from(sorted(cast("EnumDescriptor", field.enum_type).values_by_number)),
        _whole(-(2**31), 2**31 - 1),
    ),
    _F.CPPTYPE_FLOAT: lambda _: st.floats(width=32),
    _F.CPPTYPE_INT32: lambda _: _whole(-(2**31), 2**31 - 1),
    _F.CPPTYPE_INT64: lambda _: _whole(-(2**63), 2**63 - 1),
    _F.CPPTYPE_STRING: lambda field: (
        _texts() if field.type == _F.TYPE_STRING else st.binary(max_size=40)
    ),
    _F.CPPTYPE_UINT32: lambda _: _whole(0, 2**32 - 1),
    _F.CPPTYPE_UINT64: lambda _: _whole(0, 2**64 - 1),
}
