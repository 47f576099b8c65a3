"""Remembers what text encoders made of words: the same words are asked for again and again."""

import copy
import functools
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

from callsheet.runner.untyped import Untyped

MOST_ENTRIES: Final = 64
MOST_BYTES: Final = 64 * 2**20

Key: TypeAlias = tuple[object, ...]


class TextCache:
    """Answers calls of text encoders that were made before with the very same tensors.

    A call is the same when its encoder, its words and their number are: then so is the result, to
    the last bit. The least recently used goes first. The weights must not change meanwhile.
    """

    def __init__(
        self, torch: Untyped, *, most: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES
    ) -> None:
        self._torch = torch
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[Key, tuple[Untyped, int]] = OrderedDict()
        self._bytes = 0
        self._is_open = True
        self.hits = 0

    def put_before(self, encoders: Mapping[str, Untyped]) -> None:
        """Answer for these encoders, by their names, from now on."""
        for name, encoder in encoders.items():
            original = encoder.forward
            encoder.forward = functools.wraps(original)(
                functools.partial(self._answer, name, original)
            )

    @contextmanager
    def closed(self) -> Generator[None]:
        """Answer nothing and keep nothing inside, where the weights are not the usual ones."""
        self._is_open = False
        try:
            yield
        finally:
            self._is_open = True

    def _answer(self, name: str, original: Untyped, *args: Untyped, **more: Untyped) -> Untyped:
        key = self._key(name, args, more) if self._is_open else None
        if key is None:
            return original(*args, **more)
        if (found := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            self.hits += 1
            return copy.deepcopy(found[0])
        output = original(*args, **more)
        # A copy, as above: nobody knows what is done to the tensors outside.
        self._keep(key, copy.deepcopy(output))
        return output

    def _keep(self, key: Key, output: Untyped) -> None:
        size = sum(tensor.nbytes for tensor in _tensors(output, torch=self._torch))
        self._kept[key] = (output, size)
        self._bytes += size
        while self._kept and (len(self._kept) > self._most or self._bytes > self._most_bytes):
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped

    def _key(self, name: str, args: tuple[Untyped, ...], more: Mapping[str, Untyped]) -> Key | None:
        """Return what tells the call from all others; None: it takes what cannot be compared."""
        parts: list[object] = [name]
        for called, value in (*enumerate(args), *sorted(more.items())):
            if isinstance(value, self._torch.Tensor):
                kind = (tuple(value.shape), str(value.dtype), str(value.device))
                parts.append((called, *kind, value.cpu().numpy().tobytes()))
            elif value is None or isinstance(value, bool | int | float | str):
                parts.append((called, value))
            else:
                return None
        return tuple(parts)


def _tensors(output: Untyped, *, torch: Untyped) -> Generator[Untyped]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in output.values():  # pyright: ignore[reportUnknownVariableType] - whatever it is
            yield from _tensors(part, torch=torch)
    elif isinstance(output, list | tuple):
        for part in output:  # pyright: ignore[reportUnknownVariableType] - whatever it is
            yield from _tensors(part, torch=torch)
