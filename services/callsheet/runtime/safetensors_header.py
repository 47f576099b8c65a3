"""The head of a safetensors file: which weights are in it, and whether all of it is there.

No weight is read, so that a file of many gigabytes costs milliseconds and no memory; the library
that reads whole files needs numpy or torch, which a process that only looks does without.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

#: How many bits one weight takes, by the format's name in the file.
BITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
        **dict.fromkeys(("F32", "I32", "U32"), 32),
        **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
        **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
        **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
        **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
        "F4": 4,
    }
)
#: The formats that are turned into the one that a model is served in.
FLOATING: Final = frozenset(name for name in BITS if name.startswith(("F", "BF")))

#: As the format itself limits them.
_LONGEST_HEAD: Final = 100_000_000
_MOST_PARAMETERS: Final = 2**60
_LENGTH: Final = struct.Struct("<Q")


class WeightsDamaged(ValueError):
    """The file is no safetensors file, or not all of it is there; the message says which."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes in the file."""
        return self.parameters * BITS[self.dtype] // 8


def tensors_of(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file by name, once it is known that all their bytes are there.

    Raises WeightsDamaged, and OSError when the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            raise WeightsDamaged(f"cut off: it has {size} bytes, too few for any weights")
        (length,) = _LENGTH.unpack(start)
        if length > _LONGEST_HEAD:
            raise WeightsDamaged(f"no safetensors file: its head would have {length} bytes")
        head = file.read(length)
    if len(head) < length:
        raise WeightsDamaged(f"cut off: it has {size} bytes, and its head alone {length}")
    tensors, end = _parsed(head)
    whole = _LENGTH.size + length + end
    if size < whole:
        raise WeightsDamaged(f"cut off: it has {size} of {whole} bytes")
    if size > whole:
        raise WeightsDamaged(f"damaged: it has {size} bytes, and its head knows of {whole}")
    return tensors


def _parsed(head: bytes) -> tuple[Mapping[str, Tensor], int]:
    """Return the tensors, and where the last one ends."""
    entries = _object(head)
    if not _is_metadata(entries.pop("__metadata__", None)):
        raise WeightsDamaged("damaged: its metadata are no texts")
    found: dict[str, Tensor] = {}
    places: list[tuple[int, int]] = []
    for name, entry in entries.items():
        found[name], place = _entry(name, entry)
        places.append(place)
    end = 0
    for first, last in sorted(places):
        if first != end:
            raise WeightsDamaged("damaged: its tensors overlap, or leave gaps")
        end = last
    return found, end


def _object(head: bytes) -> dict[str, object]:
    """Return the object of a head, as strictly as the format's own library reads it."""
    try:
        entries = json.loads(
            head.decode(), object_pairs_hook=_without_twins, parse_constant=_no_number
        )
        # A text may hold half of a letter, which is no text anywhere else.
        json.dumps(entries, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise WeightsDamaged("no safetensors file: its head is no JSON") from error
    if not isinstance(entries, dict) or not head.startswith(b"{"):
        raise WeightsDamaged("no safetensors file: its head is no JSON object")
    return cast("dict[str, object]", entries)


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_number(constant: str) -> object:
    raise ValueError(f"{constant} is no number of JSON")


def _is_metadata(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    return all(isinstance(text, str) for text in cast("dict[str, object]", value).values())


def _entry(name: str, entry: object) -> tuple[Tensor, tuple[int, int]]:
    shown = f"its tensor {name[:80]!r}"
    if not isinstance(entry, dict):
        raise WeightsDamaged(f"damaged: {shown} is not described")
    known = cast("dict[str, object]", entry)
    dtype, shape = known.get("dtype"), _wholes(known.get("shape"))
    place = _wholes(known.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in BITS:
        raise WeightsDamaged(f"damaged: {shown} has the unknown number format {dtype!r}"[:200])
    if shape is None or place is None or len(place) != 2:
        raise WeightsDamaged(f"damaged: {shown} has no shape or no place")
    tensor = Tensor(dtype, shape)
    sides = prod(max(1, side) for side in shape)
    if sides > _MOST_PARAMETERS or tensor.parameters * BITS[dtype] % 8:
        raise WeightsDamaged(f"damaged: {shown} has an impossible shape")
    if place[1] - place[0] != tensor.size_bytes:
        raise WeightsDamaged(f"damaged: {shown} has another size than its shape")
    return tensor, (place[0], place[1])


def _wholes(value: object) -> tuple[int, ...] | None:
    """Return the whole numbers of a list; None: it is none, or of something else."""
    if not isinstance(value, list):
        return None
    numbers = cast("list[object]", value)
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    return tuple(cast("list[int]", numbers))
