"""What the process that decodes answers, checked before it is believed."""

from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, cast

from callsheet.media.decoder import Refused
from callsheet.media.facts import MediaFacts, SoundFacts, StreamFacts, VideoFacts
from callsheet.media.wire import Message

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES: Final = frozenset({"uint8", "float32"})


def array_of(message: Message, payload: bytearray) -> "NDArray[Any]":
    """Return the array of an answer. Raises Refused when it is none."""
    import numpy as np

    match message:
        case {"shape": shape, "type": str(name)} if isinstance(shape, list) and name in _TYPES:
            sides = [side for side in cast("list[object]", shape) if isinstance(side, int)]
            try:
                return np.frombuffer(payload, dtype=name).reshape(sides)
            except ValueError as error:
                raise _nonsense() from error
        case _:
            raise _nonsense()


def time_of(message: Message) -> timedelta:
    """Return the time of an answer that has one. Raises Refused when it is none."""
    match message:
        case {"time": float(seconds)} if 0 <= seconds <= timedelta.max.total_seconds() / 2:
            return timedelta(seconds=seconds)
        case _:
            raise _nonsense()


def facts_of(told: object) -> MediaFacts:
    """Return the facts of an answer. Raises Refused when they are none."""
    match _fields(told):
        case {
            "kind": str(kind),
            "duration": int() | float() | None as duration,
            "video": video,
            "sound": sound,
            "streams": streams,
        } if isinstance(streams, list):
            return MediaFacts(
                kind=kind[:64],
                duration=None if duration is None else timedelta(seconds=duration),
                video=None if video is None else _video(video),
                sound=None if sound is None else _sound(sound),
                streams=tuple(_stream(each) for each in cast("list[object]", streams)),
            )
        case _:
            raise _nonsense()


def _video(told: object) -> VideoFacts:
    match _fields(told):
        case {
            "width": int(width),
            "height": int(height),
            "frame_rate": [int(number), int(each)],
            "codec": str(codec),
        } if width > 0 and height > 0 and number > 0 and each > 0:
            return VideoFacts(width, height, Fraction(number, each), codec[:64])
        case _:
            raise _nonsense()


def _sound(told: object) -> SoundFacts:
    match _fields(told):
        case {
            "channels": int(channels),
            "sample_rate": int(rate),
            "codec": str(codec),
        } if channels > 0 and rate > 0:
            return SoundFacts(channels, rate, codec[:64])
        case _:
            raise _nonsense()


def _stream(told: object) -> StreamFacts:
    match _fields(told):
        case {"kind": str(kind), "codec": str(codec)}:
            return StreamFacts(kind[:64], codec[:64])
        case _:
            raise _nonsense()


def _fields(told: object) -> Message:
    return cast("Message", told) if isinstance(told, dict) else {}


def _nonsense() -> Refused:
    return Refused("makes its decoder say what nobody understands")
