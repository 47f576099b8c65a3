"""How a bucket is reached: what an `s3://` URL leaves open."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

#: A request that moves no byte for so long is given up, and made again.
_SILENCE: Final = timedelta(seconds=30)
#: The longest one request may take: a part of an upload, or a whole download.
_REQUEST: Final = timedelta(minutes=10)
_CONNECT: Final = timedelta(seconds=5)
_RETRIES: Final = 4
_RETRYING: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class S3Access:
    """Endpoint, key and region; what is None comes from the AWS variables, or is AWS's own."""

    #: The URL of an S3 API that is not AWS's, such as R2's or MinIO's, without the bucket.
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    region: str | None = None

    @property
    def config(self) -> "S3Config":
        """What obstore is told of the service; nothing that is None."""
        given: S3Config = {}
        if self.endpoint is not None:
            given["endpoint"] = self.endpoint.rstrip("/")
        if self.access_key_id is not None:
            given["access_key_id"] = self.access_key_id
        if self.secret_access_key is not None:
            given["secret_access_key"] = self.secret_access_key
        if self.region is not None:
            given["region"] = self.region
        return given

    @property
    def client_options(self) -> "ClientConfig":
        """How patient a request is; without TLS only towards an endpoint that says http://."""
        return {
            "allow_http": (self.endpoint or "").startswith("http://"),
            "connect_timeout": _CONNECT,
            "read_timeout": _SILENCE,
            "timeout": _REQUEST,
        }

    @property
    def retry_config(self) -> "RetryConfig":
        """How often a request is made again."""
        return {"max_retries": _RETRIES, "retry_timeout": _RETRYING}
