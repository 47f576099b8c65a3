"""What is fuzzed: a decoder or a server, given bytes and judged by an oracle of its own."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from google.protobuf.message import Message

#: Gives the bytes to what is fuzzed. Raises whatever must never be raised, or AssertionError.
Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote."""

    name: str
    #: What is set up once for many inputs; entering it gives the check.
    opened: Callable[[], AbstractContextManager[Check]]
    #: Messages that are made from their descriptors, each with what stands before its bytes.
    messages: tuple[tuple[bytes, type[Message]], ...] = field(default=())
    #: How many mutations a short run makes: fewer where each one is slow.
    examples: int = 60


def plain(
    name: str,
    check: Check,
    *,
    messages: tuple[tuple[bytes, type[Message]], ...] = (),
    examples: int = 60,
) -> Target:
    """Return the target of a function that needs nothing set up."""
    return Target(name, lambda: nullcontext(check), messages=messages, examples=examples)
