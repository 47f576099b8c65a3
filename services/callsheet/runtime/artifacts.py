"""The artifact store that the settings name."""

from pydantic import SecretStr

from callsheet.artifacts.access import S3Access
from callsheet.artifacts.store import ArtifactStore
from callsheet.runtime.settings import Settings


def artifact_store(settings: Settings) -> ArtifactStore:
    """Return the store; nothing is touched before its first use."""
    access = S3Access(
        endpoint=settings.s3_endpoint,
        access_key_id=_revealed(settings.s3_access_key_id),
        secret_access_key=_revealed(settings.s3_secret_access_key),
        region=settings.s3_region,
    )
    return ArtifactStore(
        settings.artifacts_url, public_url=settings.artifacts_public_url, s3=access
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
