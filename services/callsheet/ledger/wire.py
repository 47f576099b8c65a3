"""Protobuf bytes put together from parts that are bytes already.

Concatenated messages merge (protobuf.dev/programming-guides/encoding), so a message may be written
as its parts, one after the other, without parsing those that came as bytes.
"""

from typing import Final

_LENGTH_DELIMITED: Final = 2


def length_delimited(number: int, content: bytes) -> bytes:
    """Return the field with that number that holds a message, a string or bytes."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Return a number of zero or more as its base-128 varint."""
    if value < 0x80:
        return bytes((value,))
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
