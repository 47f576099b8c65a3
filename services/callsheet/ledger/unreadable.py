"""Stored bytes that are no record: told as the one error that every reader of records expects."""

from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from google.protobuf.message import DecodeError

from callsheet.ledger.errors import UnknownVersion

P = ParamSpec("P")
T = TypeVar("T")

#: What reading raises where bytes are no message, an enum's number has no meaning, or a time or a
#: length is beyond any calendar.
_PROBLEMS: Final = (DecodeError, KeyError, OverflowError, ValueError)
#: No record was ever written with it.
_NO_VERSION: Final = 0


def loudly(kind: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return what makes a reader of that kind of record raise UnknownVersion for what is none.

    One broken record must not end the process that meets it: whoever reads many passes it over.
    """

    def made(read: Callable[P, T]) -> Callable[P, T]:
        @wraps(read)
        def reading(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return read(*args, **kwargs)
            except _PROBLEMS as error:
                raise UnknownVersion(kind, _NO_VERSION) from error

        return reading

    return made
