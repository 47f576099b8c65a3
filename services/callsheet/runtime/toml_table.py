"""A table of a TOML file, read value by value; what has no meaning is refused by its place."""

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from math import isfinite
from typing import TypeVar, cast

Choice = TypeVar("Choice", bound=StrEnum)


class CatalogueInvalid(ValueError):
    """The catalogue's file cannot be used; the message names the place and the reason."""


class TomlTable:
    """One table and its place in the file. Every method raises CatalogueInvalid."""

    def __init__(self, values: object, *, place: str) -> None:
        if not isinstance(values, dict):
            raise CatalogueInvalid(f"{place}: must be a table")
        self._values = cast("Mapping[str, object]", values)
        self.place = place

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def refuse_others(self, known: AbstractSet[str]) -> None:
        """Refuse every key that is not known."""
        if unknown := sorted(self._values.keys() - known):
            raise CatalogueInvalid(f"{self.place or 'the file'}: unknown key {unknown[0]!r}")

    def table(self, key: str) -> "TomlTable":
        """Return the table of that key; an empty one when there is none."""
        return TomlTable(self._values.get(key, {}), place=self._inner(key))

    def tables(self, key: str, *, most: int) -> "list[TomlTable]":
        """Return the tables of the list of that key, so many at the most; none without it."""
        values = self._values.get(key, [])
        if not isinstance(values, list):
            raise CatalogueInvalid(f"{self._inner(key)}: must be a list of tables")
        if len(listed := cast("list[object]", values)) > most:
            raise CatalogueInvalid(f"{self._inner(key)}: must have at most {most} tables")
        return [
            TomlTable(value, place=f"{self._inner(key)}[{index}]")
            for index, value in enumerate(listed)
        ]

    def text(self, key: str, *, form: re.Pattern[str] | None = None) -> str:
        """Return a text that is not empty, and has the form."""
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise CatalogueInvalid(f"{self._inner(key)}: must be a text")
        if form is not None and not form.fullmatch(value):
            raise CatalogueInvalid(f"{self._inner(key)}: has the form {form.pattern}")
        return value

    def choice(self, key: str, choices: type[Choice]) -> Choice:
        """Return the one of the choices that the text names."""
        value = self.text(key)
        try:
            return choices(value)
        except ValueError:
            known = ", ".join(choices)
            raise CatalogueInvalid(f"{self._inner(key)}: must be one of {known}") from None

    def whole(self, key: str, *, least: int, most: int, default: int) -> int:
        """Return a whole number within its bounds."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise CatalogueInvalid(
                f"{self._inner(key)}: must be a whole number from {least} to {most}"
            )
        return value

    def number(self, key: str, *, least: float, most: float, default: float) -> float:
        """Return a number within its bounds."""
        value = self._values.get(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not isfinite(value)
            or not least <= value <= most
        ):
            raise CatalogueInvalid(
                f"{self._inner(key)}: must be a number from {least:g} to {most:g}"
            )
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise CatalogueInvalid(f"{self._inner(key)}: must be true or false")
        return value

    def _inner(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key
