"""The token of the embedded brain: given, or made once and kept in the state folder."""

import secrets
from typing import Final

from callsheet.runtime.secrets import keep_secret, read_secret
from callsheet.runtime.settings import Settings

BRAIN_TOKEN_FILE: Final = "brain.token"  # noqa: S105  # the name of a file


def brain_token(settings: Settings) -> str:
    """Return the token that the embedded brain asks for: the setting's, or the one kept here.

    Raises SecretUnusable when the file was opened to other users, or holds no token.
    """
    if settings.brain_token is not None:
        return settings.brain_token.get_secret_value()
    path = settings.state_dir / BRAIN_TOKEN_FILE
    if not path.exists():
        keep_secret(path, secrets.token_urlsafe(32))
    return read_secret(path)
