"""What signs the webhooks of projects, and which keys go to whom: the registry, as of a claim."""

from typing import Final, cast

import structlog

from callsheet.ledger.webhook_registry import FIRST_SECRET, RegisteredOrigin, WebhookRegistry
from callsheet.runtime.secrets import SecretUnusable, open_sealed, webhook_secret
from callsheet.sidecar.signing import signing_key

#: Before the first look.
_NEVER: Final = -1

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Credentials:
    """Derives secrets from the master key, and opens the keys of registered origins with it."""

    def __init__(self, registry: WebhookRegistry, *, master_key: bytes) -> None:
        self._registry = registry
        self._master_key = master_key
        self._version = _NEVER
        self._versions: dict[str, tuple[int, ...]] = {}
        self._signing_keys: dict[str, tuple[bytes, ...]] = {}
        self._api_keys: dict[tuple[str, str], str] = {}

    async def refresh(self, version: int) -> None:
        """Read the registry if it is of another version. Raises LedgerUnavailable."""
        if version == self._version:
            return
        read = await self._registry.read()
        self._versions = dict(read.secret_versions)
        self._signing_keys.clear()
        self._api_keys = {}
        for origin in read.origins:
            self._open(origin)
        self._version = read.version
        _log.info("webhook_registry_read", version=read.version, origins=len(read.origins))

    def signing_keys(self, project: str) -> tuple[bytes, ...]:
        """Return the keys that sign the project's webhooks: two while its secret is rotated."""
        found = self._signing_keys.get(project)
        if found is None:
            versions = self._versions.get(project, (FIRST_SECRET,))
            found = tuple(
                signing_key(webhook_secret(self._master_key, project, version))
                for version in versions
            )
            self._signing_keys[project] = found
        return found

    def api_key(self, project: str, origin: str) -> str | None:
        """Return the key that goes to that very origin with the project's webhooks, if any."""
        return self._api_keys.get((project, origin))

    def _open(self, origin: RegisteredOrigin) -> None:
        try:
            key = open_sealed(self._master_key, origin.sealed_key)
        except SecretUnusable as error:
            # Sealed with another master key: its receiver will refuse what comes without it.
            _log.error(
                "origin_key_unreadable",
                project=origin.project,
                origin=origin.origin,
                reason=str(error),
            )
        else:
            self._api_keys[origin.project, origin.origin] = key
