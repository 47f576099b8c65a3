"""The keys of one script call, each named once, and where it stands among them."""


class Names:
    """Collects keys: a script is told their places, counted from 1."""

    def __init__(self, *names: str) -> None:
        self._places = {name: place for place, name in enumerate(names, start=1)}

    @property
    def all(self) -> list[str]:
        """The keys in order, for the call."""
        return list(self._places)

    def of(self, name: str, *following: str) -> int:
        """Return the key's place; *following* keys, always the same ones, come right after it."""
        place = self._places.setdefault(name, len(self._places) + 1)
        for each in following:
            self._places.setdefault(each, len(self._places) + 1)
        return place
