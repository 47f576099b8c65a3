"""The settings of runners: what they keep of work that is not done yet."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.setting_types import UpToAnHour


class RunnerSettings(BaseSettings):
    """The part of the settings that is about how runners work."""

    checkpoint_period: UpToAnHour = Field(
        default=timedelta(seconds=10),
        validation_alias="CALLSHEET_CHECKPOINT_SECONDS",
        description="Work between two checkpoints of an attempt, which another goes on from;"
        " 0: none are saved.",
    )
    batch_bucket: int | None = Field(
        default=None,
        ge=1,
        le=32,
        validation_alias="CALLSHEET_BATCH_BUCKET",
        description="Tasks that a device runs together at the most, 1 to 32; unset: 8, and 1 on the"
        " CPU.",
    )
    overtake_limit: UpToAnHour = Field(
        default=timedelta(seconds=30),
        validation_alias="CALLSHEET_OVERTAKE_SECONDS",
        description="For how long a task may be overtaken by others whose model is warm, or that"
        " run together; 0: none is.",
    )
    warm_host_bytes: int | None = Field(
        default=None,
        ge=0,
        le=2**44,
        validation_alias="CALLSHEET_WARM_HOST_BYTES",
        description="Host memory for weights that a runner keeps warm on the CPU, or put aside from"
        " its device; unset: half of its memory limit, or of the machine's memory.",
    )
    warm_device_bytes: int | None = Field(
        default=None,
        ge=0,
        le=2**44,
        validation_alias="CALLSHEET_WARM_DEVICE_BYTES",
        description="Memory of the device for weights that its runner keeps warm; unset: 70 % of"
        " it.",
    )
