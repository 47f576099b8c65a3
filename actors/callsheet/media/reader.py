"""Reads the files that a task works on, through a process that is killed when they ask too much."""

import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self, TypeAlias, cast

from callsheet.media.answers import array_of, facts_of, time_of
from callsheet.media.decoder import Decoder, Refused
from callsheet.media.facts import MediaFacts
from callsheet.media.limits import MediaLimits
from callsheet.media.wire import Message
from callsheet.runner.context import HandlerFailure
from callsheet.tasks.v1.media_pb2 import MediaReference
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

if TYPE_CHECKING:
    from callsheet.media.picture_decoding import Pixels
    from callsheet.media.sound_decoding import Waveform

Fetch: TypeAlias = Callable[[str, IO[bytes], int], None]
"""Writes the file that a reference names, of so many bytes at most. Raises HandlerFailure."""

#: Bytes of one stretch of sound, or less: twice what a block of two channels has.
_LARGEST_SOUND: Final = 2**20


class MediaReader:
    """Decodes the files that references name, for one attempt.

    Whatever cannot be read raises HandlerFailure(INVALID_INPUT), with the file and the reason; so
    does a file that takes more memory or time than the limits allow. TaskStopped goes through.
    """

    def __init__(
        self, fetch: Fetch, *, limits: MediaLimits, check: Callable[[], None], folder: Path
    ) -> None:
        """*check* raises TaskStopped; *folder* is where files are kept meanwhile, without names."""
        self._fetch = fetch
        self._limits = limits
        self._check = check
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self._bytes_left = limits.largest_bytes
        self._decoder: Decoder | None = None
        self._streams = 0

    @property
    def limits(self) -> MediaLimits:
        """What holds for the files, and for what is made of them."""
        return self._limits

    def __enter__(self) -> Self:
        self._decoder = Decoder(self._limits, self._check)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._decoder is not None:
            self._decoder.end()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def facts(self, reference: MediaReference) -> MediaFacts:
        """Return what a video or a sound is."""
        message, _ = self._ask(reference, {"ask": "facts"})
        with _naming(reference):
            return facts_of(message["facts"])

    def image(self, reference: MediaReference, *, transparent: bool = False) -> "Pixels":
        """Return an image, turned as it is shown: height x width x 3, or x 4 with transparency."""
        request = {"ask": "image", "transparent": transparent}
        most = self._limits.most_pixels * 4
        message, payload = self._ask(reference, request, largest_payload=most)
        with _naming(reference):
            return array_of(message, payload)

    def size_bytes(self, reference: MediaReference) -> int:
        """Return how large a file is."""
        return os.fstat(self._fetched(reference).fileno()).st_size

    def picture(
        self, reference: MediaReference, *, at: timedelta, size: tuple[int, int]
    ) -> "tuple[timedelta, Pixels]":
        """Return since when, and what a video shows at a moment: height x width x 3 of the size.

        *size* is (width, height). Behind its last picture a video shows that one.
        """
        request = {"ask": "picture", "at": at.total_seconds(), "size": [*size]}
        most = size[0] * size[1] * 3
        message, payload = self._ask(reference, request, largest_payload=most)
        with _naming(reference):
            return time_of(message), cast("Pixels", array_of(message, payload))

    def pictures(
        self,
        reference: MediaReference,
        *,
        start: timedelta,
        end: timedelta | None,
        rate: Fraction,
        size: tuple[int, int],
        fit: str,
    ) -> "Iterator[Pixels]":
        """Yield a video's pictures at the rate, each height x width x 3 of the (width, height).

        *fit* is a Fit of callsheet.media.picture_decoding. What was yielded is not to be changed:
        it may come again.
        """
        request = {
            "ask": "pictures",
            "start": start.total_seconds(),
            "end": None if end is None else end.total_seconds(),
            "rate": [rate.numerator, rate.denominator],
            "size": [*size],
            "fit": fit,
        }
        shown: Pixels | None = None
        stream = self._stream(reference, request, largest_payload=size[0] * size[1] * 3)
        for message, payload in stream:
            if message.get("same") is not True or shown is None:
                with _naming(reference):
                    shown = cast("Pixels", array_of(message, payload))
            yield shown

    def sound(
        self,
        reference: MediaReference,
        *,
        start: timedelta,
        end: timedelta | None,
        rate: int,
        channels: int,
    ) -> "Iterator[Waveform]":
        """Yield sound in stretches of channels x samples, of float32 between -1 and 1."""
        request = {
            "ask": "sound",
            "start": start.total_seconds(),
            "end": None if end is None else end.total_seconds(),
            "rate": rate,
            "channels": channels,
        }
        for message, payload in self._stream(reference, request, largest_payload=_LARGEST_SOUND):
            with _naming(reference):
                yield cast("Waveform", array_of(message, payload))

    def _stream(
        self, reference: MediaReference, request: Message, *, largest_payload: int
    ) -> Iterator[tuple[Message, bytearray]]:
        self._streams += 1
        number = self._streams
        self._ask(reference, {**request, "stream": number})
        try:
            while True:
                wanted = {"ask": "next", "stream": number}
                with _naming(reference):
                    message, payload = self._there().ask(wanted, largest_payload=largest_payload)
                if message.get("end") is True:
                    return
                yield message, payload
        finally:
            with suppress(Refused):
                self._there().ask({"ask": "close", "stream": number})

    def _ask(
        self, reference: MediaReference, request: Message, *, largest_payload: int = 0
    ) -> tuple[Message, bytearray]:
        file = self._fetched(reference)
        with _naming(reference):
            return self._there().ask(request, file=file, largest_payload=largest_payload)

    def _there(self) -> Decoder:
        if self._decoder is None:
            raise ValueError("the reader is not entered")
        return self._decoder

    def _fetched(self, reference: MediaReference) -> IO[bytes]:
        """Return the file, fetched once."""
        if (found := self._files.get(reference.uri)) is not None:
            return found
        self._check()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed with the reader
        try:
            self._fetch(reference.uri, file, self._bytes_left)
        except BaseException:
            file.close()
            raise
        self._bytes_left -= file.tell()
        file.flush()
        self._files[reference.uri] = file
        return file


@contextmanager
def _naming(reference: MediaReference) -> Generator[None]:
    try:
        yield
    except Refused as refused:
        name = reference.uri.rpartition("/")[2]
        raise HandlerFailure(
            FAILURE_REASON_INVALID_INPUT, f"the file {name} {refused}"
        ) from refused
