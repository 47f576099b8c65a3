"""The secrets of webhooks: derived, never stored, from one master key; others sealed with it."""

import base64
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from callsheet.runtime.settings import Settings

MASTER_KEY_FILE: Final = "webhook-master.key"

_SHORTEST: Final = 32


class SecretUnusable(Exception):
    """A secret is missing, too short, or not kept from other users."""


def webhook_secret(master_key: bytes, project: str, version: int) -> str:
    """Return the project's secret of that version, as Standard Webhooks writes it: `whsec_…`."""
    derived = hmac.digest(master_key, f"callsheet-webhook:{project}:{version}".encode(), "sha256")
    return "whsec_" + base64.b64encode(derived).decode("ascii")


def seal(master_key: bytes, text: str) -> str:
    """Return the text so that only open_sealed with the same master key reads it."""
    return _sealer(master_key).encrypt(text.encode()).decode("ascii")


def open_sealed(master_key: bytes, sealed: str) -> str:
    """Return the text that was sealed. Raises SecretUnusable when it was with another key."""
    try:
        return _sealer(master_key).decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise SecretUnusable("it was sealed with another master key") from None


def load_master_key(settings: Settings) -> bytes:
    """Return the master key: the setting's, or in development the one kept in the state folder.

    Raises SecretUnusable outside development when the setting is unset, and when the kept
    file is too short or open to other users.
    """
    if settings.webhook_master_key is not None:
        return settings.webhook_master_key.get_secret_value().encode()
    if settings.environment != "development":
        raise SecretUnusable(f"CALLSHEET_WEBHOOK_MASTER_KEY must be set in {settings.environment}")
    path = settings.state_dir / MASTER_KEY_FILE
    if not path.exists():
        keep_secret(path, secrets.token_urlsafe(_SHORTEST))
    return read_secret(path).encode()


def keep_secret(path: Path, text: str) -> None:
    """Write the text where only this user reads it, unless the file is there already.

    A reader never sees half of it: it is written beside and linked into place.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first, and its text stands
    finally:
        draft.unlink()


def read_secret(path: Path) -> str:
    """Return the text that keep_secret wrote.

    Raises SecretUnusable when other users may read the file, or it holds too little.
    """
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SecretUnusable(f"{path} is open to other users: chmod 600 it")
    text = path.read_text().strip()
    if len(text) < _SHORTEST:
        raise SecretUnusable(f"{path} holds no key; remove it to have a new one made")
    return text


def _sealer(master_key: bytes) -> Fernet:
    derived = hmac.digest(master_key, b"callsheet-sealed", "sha256")
    return Fernet(base64.urlsafe_b64encode(derived))
