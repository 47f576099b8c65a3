"""The settings of every process: typed, frozen, read from the environment once.

The fields below are all there is: their names, limits and descriptions are what `callsheetd
settings` prints, and a variable of our prefix that is not among them is refused.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, cast

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsConfigDict

from callsheet.runtime.brain_settings import BrainSettings
from callsheet.runtime.control_settings import ControlSettings
from callsheet.runtime.device_settings import DeviceSettings
from callsheet.runtime.gateway_settings import GatewaySettings
from callsheet.runtime.input_settings import InputSettings
from callsheet.runtime.media_settings import MediaSettings
from callsheet.runtime.registry_settings import RegistrySettings
from callsheet.runtime.retry_settings import RetrySettings
from callsheet.runtime.rooms_settings import RoomsSettings
from callsheet.runtime.runner_settings import RunnerSettings
from callsheet.runtime.setting_types import (
    AbsolutePath,
    ArtifactsUrl,
    CellName,
    Device,
    GrpcAddress,
    LeaseDuration,
    MasterKey,
    PublicUrl,
    QueueNames,
    RedisUrl,
    RetentionDuration,
    RetrySchedule,
    UpToAnHour,
    WebhookTimeLimit,
)

PREFIX: Final = "CALLSHEET_"

#: Variables of our prefix that are no settings: the client's own, and the supervisor's.
OTHER_VARIABLES: Final = frozenset(
    {"CALLSHEET_ADDRESS", "CALLSHEET_API_KEY", "CALLSHEET_PROJECT", "CALLSHEET_READY_FD"}
)

#: The exit code of a process whose settings are refused (EX_CONFIG of sysexits.h).
EXIT_SETTINGS_REFUSED: Final = 78

Source = Literal["default", "environment", "derived"]

_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@\s]*:)?[^/@\s]+(?=@)")
_DAY: Final = timedelta(days=1)

#: Sentences for checks whose own words are not for people, by pydantic's error type.
_PLAIN_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {"bool_parsing": "must be true or false", "int_parsing": "must be a whole number"}
)


class SettingsError(ValueError):
    """The environment does not make settings; *problems* has one sentence a variable."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _artifacts_in_state_dir(values: Mapping[str, object]) -> str:
    return (Path(str(values.get("state_dir", "/"))) / "artifacts").as_uri()


def _public_as_stored(values: Mapping[str, object]) -> str:
    return str(values.get("artifacts_url", "file:///"))


def _cache_in_state_dir(values: Mapping[str, object]) -> Path:
    return Path(str(values.get("state_dir", "/"))) / "cache"


def _only_in_development(values: Mapping[str, object]) -> bool:
    return values.get("environment") == "development"


# The last one's fields are read first: the brain's follow from the registry's.
class Settings(
    BrainSettings,
    ControlSettings,
    DeviceSettings,
    GatewaySettings,
    InputSettings,
    MediaSettings,
    RetrySettings,
    RoomsSettings,
    RunnerSettings,
    RegistrySettings,
):
    """What a process is told by its environment, checked before it does anything."""

    model_config = SettingsConfigDict(
        frozen=True,
        case_sensitive=True,
        env_ignore_empty=True,
        validate_by_name=True,
        validate_by_alias=True,
    )

    environment: Literal["development", "staging", "production"] = Field(
        default="development",
        validation_alias="CALLSHEET_ENVIRONMENT",
        description="Where the process runs; development alone makes its own keys.",
    )
    state_dir: AbsolutePath = Field(
        default=Path(".callsheet"),
        validate_default=True,
        validation_alias="CALLSHEET_STATE_DIR",
        description="Folder of all this machine keeps: Valkey, artifacts, cache, keys, logs.",
    )
    cell: CellName = Field(
        default="local",
        validation_alias="CALLSHEET_CELL",
        description="Name of the cell, part of every Redis key.",
    )
    redis_url: RedisUrl | None = Field(
        default=None,
        validation_alias="REDIS_URL",
        repr=False,
        description="Redis of the ledger; unset: the embedded Valkey in state_dir/valkey.",
    )
    grpc_address: GrpcAddress = Field(
        default="127.0.0.1:50051",
        validation_alias="CALLSHEET_GRPC_ADDRESS",
        description="Where control listens, host:port; port 0 lets `up` choose a free one.",
    )
    grpc_reflection: bool = Field(
        default=False,
        validation_alias="CALLSHEET_GRPC_REFLECTION",
        description="Whether control shows its services to clients that ask by reflection.",
    )
    artifacts_url: ArtifactsUrl = Field(
        default_factory=_artifacts_in_state_dir,
        validation_alias="CALLSHEET_ARTIFACTS_URL",
        description="Where artifacts are written: a folder, or a bucket and prefix.",
    )
    artifacts_public_url: PublicUrl = Field(
        default_factory=_public_as_stored,
        validation_alias="R2_PUBLIC_URL",
        description="What the URI of an artifact starts with; artifacts_url when unset.",
    )
    models_file: AbsolutePath | None = Field(
        default=None,
        validation_alias="CALLSHEET_MODELS",
        description="TOML catalogue of models; unset: the tiny built-in ones alone.",
    )
    cache_dir: AbsolutePath = Field(
        default_factory=_cache_in_state_dir,
        validation_alias="CALLSHEET_CACHE_DIR",
        description="Folder of what can be made again, such as built models.",
    )
    device: Device = Field(
        default="auto",
        validation_alias="CALLSHEET_DEVICE",
        description="Device of the worker's runner; auto: the first CUDA device, else the CPU.",
    )
    worker_slots: int = Field(
        default=8,
        ge=1,
        le=256,
        validation_alias="CALLSHEET_WORKER_SLOTS",
        description="How many tasks of the light kind one worker runs at a time, 1 to 256.",
    )
    cpu_runners: int = Field(
        default=1,
        ge=0,
        le=64,
        validation_alias="CALLSHEET_CPU_RUNNERS",
        description="How many runners without a device one worker has, 0 to 64.",
    )
    runner_memory_limit_bytes: int | None = Field(
        default=None,
        ge=64 * 2**20,
        le=2**44,
        validation_alias="CALLSHEET_RUNNER_MEMORY_LIMIT_BYTES",
        description="Resident memory past which a runner is killed, at least 64 MiB; unset: none.",
    )
    worker_queues: QueueNames = Field(
        default=(),
        validation_alias="CALLSHEET_WORKER_QUEUES",
        description="Queues whose tasks the worker claims, separated by commas; unset: all.",
    )
    lease: LeaseDuration = Field(
        default=timedelta(seconds=15),
        validation_alias="CALLSHEET_LEASE_SECONDS",
        description="How long an attempt may go without a heartbeat, 1 to 3600 seconds.",
    )
    drain_timeout: UpToAnHour = Field(
        default=timedelta(seconds=30),
        validation_alias="CALLSHEET_DRAIN_SECONDS",
        description="How long a stopping process may finish what it has, 0 to 3600 seconds.",
    )
    webhook_master_key: MasterKey | None = Field(
        default=None,
        validation_alias="CALLSHEET_WEBHOOK_MASTER_KEY",
        description="What webhook secrets are derived from, 32 characters or more; "
        "unset: in development one is made and kept in state_dir.",
    )
    webhook_allow_private: bool = Field(
        default_factory=_only_in_development,
        validation_alias="CALLSHEET_WEBHOOK_ALLOW_PRIVATE",
        description="Whether webhooks may go to this machine itself; true in development alone.",
    )
    webhook_allow_http: bool = Field(
        default_factory=_only_in_development,
        validation_alias="CALLSHEET_WEBHOOK_ALLOW_HTTP",
        description="Whether webhooks may go out without TLS; true in development alone.",
    )
    webhook_time_limit: WebhookTimeLimit = Field(
        default=timedelta(seconds=15),
        validation_alias="CALLSHEET_WEBHOOK_TIME_LIMIT_SECONDS",
        description="How long one try of a webhook may take, 1 to 60 seconds.",
    )
    webhook_retries: RetrySchedule = Field(
        default=tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18000, 36000, 36000)),
        validation_alias="CALLSHEET_WEBHOOK_RETRY_SECONDS",
        description="Waits between the tries of a webhook, in seconds, separated by commas.",
    )
    retention: RetentionDuration = Field(
        default=30 * _DAY,
        validation_alias="CALLSHEET_RETENTION_DAYS",
        description="How long a final task is kept, 2 to 3650 days.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        validation_alias="CALLSHEET_LOG_LEVEL",
        description="The least severe log events that are written.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json",
        validation_alias="CALLSHEET_LOG_FORMAT",
        description="Log lines as JSON, or for people.",
    )

    @model_validator(mode="after")
    def _is_open_in_development_alone(self) -> "Settings":
        for name in ("webhook_allow_private", "webhook_allow_http"):
            if getattr(self, name) and self.environment != "development":
                raise ValueError(f"{variable_of(name)}: may be true in development alone")
        return self


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One setting as `callsheetd settings` shows it; a secret's *value* is masked."""

    name: str
    variable: str
    value: str
    source: Source
    meaning: str


def variable_of(name: str) -> str:
    """Return the environment variable of the setting *name*."""
    return str(Settings.model_fields[name].validation_alias)


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises SettingsError, with one sentence for each variable that is unknown or has a bad value.
    """
    problems = list(_unknown_variables(os.environ))
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [
            _sentence(details)
            for details in error.errors(include_url=False)
            if details["type"] != "default_factory_not_called"  # only follows from another one
        ]
        raise SettingsError(tuple(problems)) from None
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def load_settings_or_exit() -> Settings:
    """Read the settings, or say on stderr what is wrong with them and exit with code 78."""
    try:
        return load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_SETTINGS_REFUSED)


def describe(settings: Settings) -> tuple[SettingRow, ...]:
    """Return every setting: variable, value, source and meaning; the parts after the whole."""
    return tuple(
        SettingRow(
            name=name,
            variable=variable_of(name),
            value=_shown(getattr(settings, name), field),
            source=_source(name, field, settings),
            meaning=field.description or "",
        )
        for name, field in _in_order()
    )


def _in_order() -> list[tuple[str, FieldInfo]]:
    """Return what Settings declares itself, then what its parts declare."""
    own = Settings.__annotations__
    return sorted(Settings.model_fields.items(), key=lambda named: named[0] not in own)


def without_password(url: str) -> str:
    """Return the URL with user and password masked."""
    return _PASSWORD_IN_URL.sub("***", url)


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    known = {variable_of(name) for name in Settings.model_fields} | OTHER_VARIABLES
    # Without the prefix, which would make every two names look alike.
    endings = [name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX)]
    for variable in sorted(environment):
        if variable.upper().startswith(PREFIX) and variable not in known:
            ending = variable.upper().removeprefix(PREFIX)
            nearest = difflib.get_close_matches(ending, endings, n=1)
            hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
            yield f"{variable}: there is no such setting{hint}"


def _sentence(details: ErrorDetails) -> str:
    message = _PLAIN_SENTENCES.get(details["type"]) or (
        details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    )
    if not details["loc"]:
        return message
    variable = str(details["loc"][0])
    variable = variable_of(variable) if variable in Settings.model_fields else variable
    if variable in _secret_variables():
        return f"{variable}: {message}"
    given = without_password(str(details["input"]))
    return f"{variable}: {message}, not {given[:80]!r}"


def _secret_variables() -> set[str]:
    fields = Settings.model_fields.items()
    return {variable_of(name) for name, field in fields if SecretStr.__name__ in repr(field)}


def _source(name: str, field: FieldInfo, settings: Settings) -> Source:
    if name in settings.model_fields_set:
        return "environment"
    return "default" if field.default_factory is None else "derived"


def _shown(value: object, field: FieldInfo) -> str:
    match value:
        case None | ():
            return "all" if field.validation_alias == "CALLSHEET_WORKER_QUEUES" else "unset"
        case SecretStr():
            return "***"
        case bool():
            return str(value).lower()
        case timedelta():
            whole_days = value >= _DAY and not value % _DAY
            return f"{value // _DAY} d" if whole_days else f"{value.total_seconds():g} s"
        case tuple():
            parts = cast("tuple[str | timedelta, ...]", value)  # names of queues, or waits
            return ",".join(
                f"{p.total_seconds():g}" if isinstance(p, timedelta) else p for p in parts
            )
        case _:
            return without_password(str(value))
