"""The settings of media: the bucket that artifacts go to, and the PayloadCMS that owns them."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from callsheet.runtime.setting_types import (
    GivenSecret,
    HttpUrl,
    PayloadName,
    PayloadTimeLimit,
    RetrySchedule,
    S3Region,
    UpToAnHour,
)


class MediaSettings(BaseSettings):
    """The part of the settings that is about where media are kept, and who is told of them."""

    s3_endpoint: HttpUrl | None = Field(
        default=None,
        validation_alias="CALLSHEET_S3_ENDPOINT",
        description="S3 API of the artifacts' bucket, such as R2's; unset: AWS's own.",
    )
    s3_access_key_id: GivenSecret | None = Field(
        default=None,
        validation_alias="CALLSHEET_S3_ACCESS_KEY_ID",
        description="Key id of the artifacts' bucket; unset: as the AWS variables or roles say.",
    )
    s3_secret_access_key: GivenSecret | None = Field(
        default=None,
        validation_alias="CALLSHEET_S3_SECRET_ACCESS_KEY",
        description="Secret of that key.",
    )
    s3_region: S3Region | None = Field(
        default=None,
        validation_alias="CALLSHEET_S3_REGION",
        description="Region of the artifacts' bucket; auto for R2; unset: us-east-1.",
    )
    payload_api_url: HttpUrl | None = Field(
        default=None,
        validation_alias="PAYLOAD_API_URL",
        description="REST API of the PayloadCMS whose media collection gets the artifacts, such "
        "as http://localhost:3010/api; unset: none does, and no webhook waits.",
    )
    payload_api_key: GivenSecret | None = Field(
        default=None,
        validation_alias="PAYLOAD_API_KEY",
        description="API key of a user of that PayloadCMS; unset: it is asked without one.",
    )
    payload_users_collection: PayloadName = Field(
        default="users",
        validation_alias="CALLSHEET_PAYLOAD_USERS_COLLECTION",
        description="Slug of the collection that the key's user is in.",
    )
    payload_media_collection: PayloadName = Field(
        default="media",
        validation_alias="CALLSHEET_PAYLOAD_MEDIA_COLLECTION",
        description="Slug of the collection that artifacts are uploaded into.",
    )
    payload_hash_field: PayloadName = Field(
        default="sourceHash",
        validation_alias="CALLSHEET_PAYLOAD_HASH_FIELD",
        description="Its unique text field by which an artifact is found again.",
    )
    payload_time_limit: PayloadTimeLimit = Field(
        default=timedelta(seconds=60),
        validation_alias="CALLSHEET_PAYLOAD_TIME_LIMIT_SECONDS",
        description="How long one request to PayloadCMS may take, 1 to 600 seconds; an upload may "
        "take one second more for each 256 KiB.",
    )
    payload_largest_bytes: int = Field(
        default=512 * 2**20,
        ge=1,
        le=2**40,
        validation_alias="CALLSHEET_PAYLOAD_LARGEST_BYTES",
        description="The largest artifact that is uploaded to PayloadCMS.",
    )
    payload_retries: RetrySchedule = Field(
        default=tuple(
            timedelta(seconds=s)
            for s in (5, 15, 60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 86_400)
        ),
        validation_alias="CALLSHEET_PAYLOAD_RETRY_SECONDS",
        description="Waits between the tries to register media, in seconds, separated by commas.",
    )
    media_wait: UpToAnHour = Field(
        default=timedelta(seconds=60),
        validation_alias="CALLSHEET_MEDIA_WAIT_SECONDS",
        description="How long the webhook of a task with artifacts waits for their registration, "
        "0 to 3600 seconds.",
    )
