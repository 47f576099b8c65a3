"""The process that decodes: it is handed files, and answers with pixels and sound.

It reads from one socket and from the files that come over it, and exits when the socket ends. One
request is answered after the other; several streams may be open at a time, each with its number.
"""

import importlib
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from fractions import Fraction
from typing import IO, Any, Final, TypeAlias, cast

from callsheet.media.confinement import confine
from callsheet.media.opening import Bounds, Unreadable, media_facts
from callsheet.media.wire import Message, WireBroken, received, send_all, sent

#: Streams that one reader has open at a time.
MOST_STREAMS: Final = 128

_Answer: TypeAlias = tuple[Message, "bytes | memoryview"]
_Pieces: TypeAlias = Iterator[Any]  # arrays of numpy, which is imported when it is needed


def serve(arguments: Sequence[str]) -> None:
    """Answer over the socket that is this process's standard input, within the given limits."""
    memory_bytes, cpu_seconds, most_pixels, longest_seconds = map(int, arguments)
    confine(memory_bytes=memory_bytes, cpu_time=timedelta(seconds=cpu_seconds))
    bounds = Bounds(most_pixels, timedelta(seconds=longest_seconds))
    with socket.socket(fileno=sys.stdin.fileno()) as pipe:
        _import_early()
        Session(pipe, bounds).serve()


def _import_early() -> None:
    """Import what every request needs, while the reader fetches files."""
    for name in ("av", "callsheet.media.picture_decoding", "callsheet.media.sound_decoding"):
        importlib.import_module(name)


class Session:
    """Answers requests until the reader is gone."""

    def __init__(self, pipe: socket.socket, bounds: Bounds) -> None:
        self._pipe = pipe
        self._bounds = bounds
        self._streams: dict[int, _Pieces] = {}
        self._files: list[int] = []

    def serve(self) -> None:
        """Answer until the pipe ends."""
        while True:
            try:
                request, _ = received(self._fill, largest_payload=0)
            except WireBroken:
                return
            message, payload = self._answered(request)
            send_all(self._pipe, sent(message, payload))

    def _answered(self, request: Message) -> _Answer:
        try:
            return self._answer(request)
        except Unreadable as error:
            return {"refused": str(error)}, b""

    def _answer(self, request: Message) -> _Answer:
        match request:
            case {"ask": "facts"}:
                return {"facts": _plain(asdict(media_facts(self._file(), self._bounds)))}, b""
            case {"ask": "image", "transparent": bool(transparent)}:
                from callsheet.media.picture_decoding import image_pixels

                return _array(image_pixels(self._file(), self._bounds, transparent=transparent))
            case {"ask": "picture", "at": float(at), "size": [int(width), int(height)]}:
                from callsheet.media.picture_decoding import picture_at

                size = (width, height)
                time, pixels = picture_at(self._file(), self._bounds, at=at, size=size)
                message, payload = _array(pixels)
                return {**message, "time": time}, payload
            case {"ask": "pictures" | "sound", "stream": int(number)}:
                if len(self._streams) >= MOST_STREAMS:
                    raise Unreadable("is one file too many at a time")
                self._streams[number] = self._opened(request)
                return {}, b""
            case {"ask": "next", "stream": int(number)}:
                return self._next(number)
            case {"ask": "close", "stream": int(number)}:
                self._streams.pop(number, None)
                return {}, b""
            case _:
                raise ValueError(f"nobody asks {request!r}")

    def _opened(self, request: Message) -> _Pieces:
        from callsheet.media.picture_decoding import Fit, Selection, video_pixels
        from callsheet.media.sound_decoding import Stretch, sound_blocks

        match request:
            case {
                "ask": "pictures",
                "start": float(start),
                "end": float() | None as end,
                "rate": [int(number), int(each)],
                "size": [int(width), int(height)],
                "fit": str(fit),
            }:
                rate = Fraction(number, each)
                selection = Selection(start, end, rate, width, height, Fit(fit))
                return video_pixels(self._file(), self._bounds, selection)
            case {
                "ask": "sound",
                "start": float(start),
                "end": float() | None as end,
                "rate": int(rate),
                "channels": int(channels),
            }:
                return sound_blocks(self._file(), self._bounds, Stretch(start, end, rate, channels))
            case _:
                raise ValueError(f"nobody asks {request!r}")

    def _next(self, number: int) -> _Answer:
        for piece in self._streams[number]:
            return ({"same": True}, b"") if piece is None else _array(piece)
        del self._streams[number]
        return {"end": True}, b""

    def _file(self) -> IO[bytes]:
        """Return the file that came with the request."""
        return os.fdopen(self._files.pop(), "rb")

    def _fill(self, buffer: memoryview) -> None:
        while buffer:
            content, files, _, _ = socket.recv_fds(self._pipe, len(buffer), 1)
            self._files += files
            if not content:
                raise WireBroken("the reader is gone")
            buffer[: len(content)] = content
            buffer = buffer[len(content) :]


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    match value:
        case timedelta():
            return value.total_seconds()
        case Fraction():
            return [value.numerator, value.denominator]
        case dict():
            return {key: _plain(each) for key, each in cast("dict[str, object]", value).items()}
        case tuple():
            return [_plain(each) for each in cast("tuple[object, ...]", value)]
        case _:
            return value


def _array(array: Any) -> _Answer:  # noqa: ANN401  # of numpy, which is imported when it is needed
    return {"shape": list(array.shape), "type": str(array.dtype)}, memoryview(array).cast("B")
