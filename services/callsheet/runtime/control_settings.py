"""The settings of control: how much it takes of one project, and of all."""

from pydantic import Field
from pydantic_settings import BaseSettings


class ControlSettings(BaseSettings):
    """The part of the settings that is about control's own limits."""

    watchers: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        validation_alias="CALLSHEET_WATCHERS",
        description="Watchers of many tasks at the same time in one control; more are refused.",
    )
    watchers_per_project: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        validation_alias="CALLSHEET_WATCHERS_PER_PROJECT",
        description="Watchers of the tasks of one project; unset: half of all.",
    )

    @property
    def watchers_of_one_project(self) -> int:
        """How many may watch the tasks of one project."""
        return self.watchers_per_project or max(1, self.watchers // 2)
