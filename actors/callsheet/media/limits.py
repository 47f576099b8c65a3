"""How much a file that a task works on may be, and cost to decode."""

from dataclasses import dataclass
from datetime import timedelta

from callsheet.runtime.input_settings import InputSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What holds for all files of one attempt. Beyond it is INVALID_INPUT."""

    largest_bytes: int = 4 * 2**30
    """Of all files together."""
    longest: timedelta = timedelta(hours=4)
    """How long a video or a sound plays; each, and what is made of them."""
    most_pixels: int = 50_000_000
    """Of one image, or of one picture of a video."""
    memory_bytes: int = 2 * 2**30
    """Address space of the process that decodes."""
    cpu_time: timedelta = timedelta(hours=1)
    """Of that process."""
    step_time: timedelta = timedelta(seconds=30)
    """How long that process may take for the next picture, or the next stretch of sound."""

    @classmethod
    def of(cls, settings: InputSettings) -> "MediaLimits":
        """Return the limits that the settings name."""
        return cls(
            largest_bytes=settings.input_largest_bytes,
            longest=settings.input_longest,
            most_pixels=settings.input_most_pixels,
            memory_bytes=settings.input_memory_bytes,
            cpu_time=settings.input_cpu_time,
            step_time=settings.input_step_time,
        )
