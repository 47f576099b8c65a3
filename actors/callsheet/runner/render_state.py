"""The state of a rendering between two steps, as bytes that another process can go on from.

One safetensors blob: nothing in it is ever executed. What can be made again from the request
(words, noise, encoded inputs) is not in it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from callsheet.runner.untyped import Untyped, imported

VERSION: Final = 1
#: A header names some hundred tensors; more than this is no state of ours.
_MOST_HEADER_BYTES: Final = 4 * 2**20
_LENGTH_BYTES: Final = 8

Plain: TypeAlias = "bool | int | float | str | list[Plain] | None"


class StateUnreadable(ValueError):
    """The bytes are no state that this version can go on from; the message says why."""


@dataclass(frozen=True)
class WalkState:
    """How far one walk over the steps is: what it takes to go on behind the last one."""

    calls: int
    """How often the scheduler has stepped."""
    of: int
    """How often it will have."""
    tensors: Mapping[str, Untyped]
    """The latents, the scheduler's tensors and the generators' states, by name; on the CPU."""
    plain: Mapping[str, Plain] = field(default_factory=dict[str, Plain])
    """What else the scheduler remembers."""
    outputs: Mapping[str, tuple[tuple[int, ...], str]] = field(
        default_factory=dict[str, tuple[tuple[int, ...], str]]
    )
    """The shape and number format that each denoiser gives, by its name."""


@dataclass(frozen=True)
class RenderState:
    """How far a rendering is: its walks over the steps, those that are done and the current one."""

    digest: str
    """Of everything that the result follows from."""
    walks: tuple[WalkState, ...]

    @property
    def step(self) -> int:
        """How many steps are done."""
        return sum(walk.calls for walk in self.walks)


def encode_state(state: RenderState) -> bytes:
    """Return the state as bytes."""
    tensors = {
        f"{index}/{name}": tensor.contiguous()
        for index, walk in enumerate(state.walks)
        for name, tensor in walk.tensors.items()
    }
    described = {
        "version": VERSION,
        "digest": state.digest,
        "walks": [
            {"calls": walk.calls, "of": walk.of, "plain": walk.plain, "outputs": walk.outputs}
            for walk in state.walks
        ],
    }
    metadata = {"callsheet": json.dumps(described, sort_keys=True)}
    return cast("bytes", imported("safetensors.torch").save(tensors, metadata))


def decode_state(content: bytes) -> RenderState:
    """Return the state that the bytes are; raises StateUnreadable."""
    described = _described(content)
    safetensors = imported("safetensors")
    try:
        tensors: Mapping[str, Untyped] = imported("safetensors.torch").load(content)
        walks = cast("Sequence[Mapping[str, Untyped]]", described["walks"])
        return RenderState(
            digest=str(described["digest"]),
            walks=tuple(_walk(walk, f"{index}/", tensors) for index, walk in enumerate(walks)),
        )
    except safetensors.SafetensorError as error:
        raise StateUnreadable("it is cut off") from error
    except (KeyError, TypeError, ValueError) as error:
        raise StateUnreadable("its header cannot be read") from error


def _walk(walk: Mapping[str, Untyped], prefix: str, tensors: Mapping[str, Untyped]) -> WalkState:
    return WalkState(
        calls=walk["calls"],
        of=walk["of"],
        tensors={
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        },
        plain=walk["plain"],
        outputs={name: (tuple(shape), dtype) for name, (shape, dtype) in walk["outputs"].items()},
    )


def _described(content: bytes) -> Mapping[str, object]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if len(content) < _LENGTH_BYTES or not 0 < length <= _MOST_HEADER_BYTES:
        raise StateUnreadable("it has no header")
    try:
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
        described = json.loads(header["__metadata__"]["callsheet"])
        version = described["version"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise StateUnreadable("its header cannot be read") from error
    if version != VERSION:
        raise StateUnreadable(f"it is of version {version}, and this is version {VERSION}")
    return cast("Mapping[str, object]", described)
