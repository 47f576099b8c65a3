"""The settings of devices: how models are run on one that is not the CPU."""

from datetime import timedelta
from typing import Literal, TypeAlias

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.setting_types import UpToAnHour

NumberFormat: TypeAlias = Literal["auto", "bfloat16", "float16", "float32"]
AttentionName: TypeAlias = Literal[
    "native",
    "native_cudnn",
    "native_efficient",
    "native_flash",
    "native_math",
    "flash",
    "flash_3",
    "sage",
    "xformers",
]
"""What computes attention. Kernels that would be fetched from the hub are not among them."""


class DeviceSettings(BaseSettings):
    """The part of the settings that is about CUDA devices; on the CPU none of it applies."""

    dtype: NumberFormat = Field(
        default="auto",
        validation_alias="CALLSHEET_DTYPE",
        description="Number format of models that name none, on a CUDA device; auto: bfloat16 where"
        " it computes in it, else float16. On the CPU it is float32.",
    )
    attention: AttentionName = Field(
        default="native",
        validation_alias="CALLSHEET_ATTENTION",
        description="What computes attention on a CUDA device, in models that let it be chosen;"
        " native: what torch takes by itself.",
    )
    channels_last: bool = Field(
        default=False,
        validation_alias="CALLSHEET_CHANNELS_LAST",
        description="Whether UNets and autoencoders keep channels last on a CUDA device.",
    )
    compile: Literal["off", "regional"] = Field(
        default="off",
        validation_alias="CALLSHEET_COMPILE",
        description="Whether the blocks that a model repeats are compiled on a CUDA device, for the"
        " shapes that the catalogue names: off or regional.",
    )
    warm_up_limit: UpToAnHour = Field(
        default=timedelta(minutes=10),
        validation_alias="CALLSHEET_WARM_UP_SECONDS",
        description="How long a runner may compile before it takes tasks, 0 to 3600 seconds; the"
        " rest is compiled when it is first needed.",
    )
