"""Ways to read a file, all alike: what tests hand good and hostile ones to."""

from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction

import numpy as np
import pytest

from callsheet.media.reader import MediaReader
from callsheet.runner.context import HandlerFailure
from callsheet.tasks.v1.media_pb2 import MediaReference
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

Read = Callable[[MediaReader, MediaReference], object]


def facts(reader: MediaReader, reference: MediaReference) -> object:
    return reader.facts(reference)


def image(reader: MediaReader, reference: MediaReference) -> object:
    return reader.image(reference)


def pictures(reader: MediaReader, reference: MediaReference, *, start: float = 0) -> list[object]:
    found = reader.pictures(
        reference,
        start=timedelta(seconds=start),
        end=None,
        rate=Fraction(10),
        size=(32, 24),
        fit="contain",
    )
    return [*found]


def picture(reader: MediaReader, reference: MediaReference) -> object:
    return reader.picture(reference, at=timedelta(0), size=(32, 24))


def sound(reader: MediaReader, reference: MediaReference, *, start: float = 0) -> object:
    blocks = reader.sound(
        reference, start=timedelta(seconds=start), end=None, rate=16_000, channels=1
    )
    return np.concatenate([*blocks], axis=1)


def refusal_of(read: Read, reader: MediaReader, reference: MediaReference) -> str:
    with pytest.raises(HandlerFailure) as refused:
        read(reader, reference)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert reference.uri.rpartition("/")[2] in refused.value.message
    assert "Traceback" not in refused.value.message
    return refused.value.message
