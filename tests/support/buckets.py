"""A real S3 API on loopback, kept by moto, and buckets in it."""

import logging
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer

from callsheet.artifacts.access import S3Access


@dataclass(frozen=True)
class Bucket:
    """One bucket, and how it is reached."""

    name: str
    access: S3Access

    @property
    def url(self) -> str:
        """Return the URL of a prefix in it."""
        return f"s3://{self.name}/callsheet"

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings that say the same to a process."""
        return {
            "CALLSHEET_ARTIFACTS_URL": self.url,
            "CALLSHEET_S3_ENDPOINT": self.access.endpoint or "",
            "CALLSHEET_S3_ACCESS_KEY_ID": self.access.access_key_id or "",
            "CALLSHEET_S3_SECRET_ACCESS_KEY": self.access.secret_access_key or "",
            "CALLSHEET_S3_REGION": self.access.region or "",
        }


@contextmanager
def s3_endpoint() -> Generator[str]:
    """Run the server on a free port; yield its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line for each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> Bucket:
    """Make an empty bucket."""
    name = f"films-{secrets.token_hex(6)}"
    with urlopen(Request(f"{endpoint}/{name}", method="PUT"), timeout=30):  # noqa: S310  # our own server, on loopback
        return Bucket(name, S3Access(endpoint, "an-access-key", "a-secret-key", "auto"))
