"""The settings of inputs: how much a file that a task works on may be, and cost to decode."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.setting_types import UpToADay


class InputSettings(BaseSettings):
    """The part of the settings that is about the files that tasks work on.

    A file beyond these limits fails its task as INVALID_INPUT; files are decoded in a child process
    that is killed at them.
    """

    input_largest_bytes: int = Field(
        default=4 * 2**30,
        ge=1,
        le=2**44,
        validation_alias="CALLSHEET_INPUT_LARGEST_BYTES",
        description="Bytes of all files that one task works on, together.",
    )
    input_longest: UpToADay = Field(
        default=timedelta(hours=4),
        validation_alias="CALLSHEET_INPUT_LONGEST_SECONDS",
        description="How long a video or sound may play, as an input or made of inputs, 1 to "
        "86400 seconds.",
    )
    input_most_pixels: int = Field(
        default=50_000_000,
        ge=4096,
        le=2**30,
        validation_alias="CALLSHEET_INPUT_MOST_PIXELS",
        description="Pixels of one image, or of one picture of a video.",
    )
    input_memory_bytes: int = Field(
        default=2 * 2**30,
        ge=512 * 2**20,
        le=2**44,
        validation_alias="CALLSHEET_INPUT_MEMORY_BYTES",
        description="Address space of the process that decodes, at least 512 MiB.",
    )
    input_cpu_time: UpToADay = Field(
        default=timedelta(hours=1),
        validation_alias="CALLSHEET_INPUT_CPU_SECONDS",
        description="CPU time that decoding the files of one task may take, 1 to 86400 seconds.",
    )
    input_step_time: UpToADay = Field(
        default=timedelta(seconds=30),
        validation_alias="CALLSHEET_INPUT_STEP_SECONDS",
        description="How long decoding may go without giving a picture or sound, 1 to 86400 "
        "seconds.",
    )
