"""The PayloadCMS that the settings name."""

from callsheet.payload.client import PayloadPlace
from callsheet.runtime.media_settings import MediaSettings


def payload_place(settings: MediaSettings) -> PayloadPlace | None:
    """Return where PayloadCMS is and who we are to it; None: there is none."""
    if settings.payload_api_url is None:
        return None
    key = settings.payload_api_key
    return PayloadPlace(
        settings.payload_api_url,
        None if key is None else key.get_secret_value(),
        users=settings.payload_users_collection,
        media=settings.payload_media_collection,
        hash_field=settings.payload_hash_field,
    )
