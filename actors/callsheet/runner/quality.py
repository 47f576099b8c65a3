"""Scores what a handler made, by the measure that its task type names in the contract."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from statistics import fmean
from types import MappingProxyType
from typing import Final, Protocol, cast

import structlog
from google.protobuf.message import Message

from callsheet.artifacts.references import media_in
from callsheet.runner.context import UnknownTaskType
from callsheet.runner.handlers import options_of
from callsheet.v1.task_pb2 import Quality

#: The part that says how well images agree with the words they were made from.
PROMPT_AGREEMENT: Final = "prompt_agreement"

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Agreement(Protocol):
    """A model that tells how well images agree with words."""

    def with_words(self, words: str, images: Sequence[bytes]) -> Sequence[float]:
        """Return for each encoded image the cosine between its meaning and that of the words."""
        ...


#: Finds the model of agreement, loading it when need be; None: the catalogue names none.
FindAgreement = Callable[[], Agreement | None]

Measure = Callable[[Message, Sequence[bytes], FindAgreement], Quality | None]
"""Scores an output from the task's input and the bytes of the output's artifacts."""


def image_focus_exposure(
    input: Message, images: Sequence[bytes], agreement: FindAgreement
) -> Quality | None:
    """Score images by sharpness and exposure; agreement with the prompt is a part of its own.

    The part does not move the score, so that scores compare whether or not there is a model for it.
    """
    from callsheet.runner.image_measure import means, measured

    if not images:
        return None
    each = [measured(image) for image in images]
    quality = Quality(score=fmean(image.score for image in each), parts=means(each))
    words, model = str(getattr(input, "prompt", "")), agreement()
    if words and model is not None:
        quality.parts[PROMPT_AGREEMENT] = fmean(model.with_words(words, images))
    return quality


#: The measures, by the names under which task types ask for them. A changed formula is a new name.
MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {"image-focus-exposure-1": image_focus_exposure}
)


def is_measured(task_type: str) -> bool:
    """Tell whether outputs of the task type are scored."""
    try:
        return bool(options_of(task_type).quality_measure)
    except UnknownTaskType:
        return False


def quality_of(
    task_type: str,
    input: Message,
    output: Message,
    *,
    contents: Mapping[str, bytes],
    agreement: FindAgreement,
) -> Quality | None:
    """Return how good the output is; None: its type has no measure, or it cannot be computed.

    *contents* holds the bytes of artifacts by their keys. Whatever goes wrong here is logged and
    never the attempt's failure: the work is done.
    """
    name = options_of(task_type).quality_measure
    if not name:
        return None
    started = time.monotonic()
    try:
        wanted = [artifact.key for artifact in media_in(output)]
        quality = MEASURES[name](input, [contents[key] for key in wanted], agreement)
    except Exception:  # noqa: BLE001 - a score that cannot be had ends no attempt
        _log.exception("quality_not_measured", measure=name)
        return None
    if quality is None:
        return None
    quality.measure = name
    took = timedelta(seconds=time.monotonic() - started)
    _log.debug("quality_measured", measure=name, score=quality.score, seconds=took.total_seconds())
    return quality
