"""Which plane the command talks to, and with which key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from callsheet.client.aio import AsyncTaskClient
from callsheet.client.cli.exits import UsageError
from callsheet.client.cli.spans import parse_span

if TYPE_CHECKING:
    import argparse
    from datetime import timedelta

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
#: Where ``callsheetd up`` leaves the key of a development plane, below its working folder.
DEVELOPMENT_KEY: Final = Path(".callsheet/development.key")

_TLS_PREFIX: Final = "https://"


@dataclass(frozen=True)
class Target:
    """One plane, as the options and the environment name it."""

    address: str
    key: str
    project: str
    tls: bool
    tls_ca: Path | None
    call_timeout: timedelta

    def client(self) -> AsyncTaskClient:
        """Return a client of the plane. Raises UsageError when it cannot be made."""
        credentials: grpc.ChannelCredentials | None = None
        if self.tls or self.tls_ca is not None:
            roots = None if self.tls_ca is None else _read(self.tls_ca)
            credentials = grpc.ssl_channel_credentials(root_certificates=roots)
        try:
            return AsyncTaskClient(
                self.address,
                key=self.key,
                project=self.project,
                tls=credentials,
                timeout=self.call_timeout,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the plane."""
    group = parser.add_argument_group("which plane")
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="where the control plane listens; https://HOST:PORT means TLS "
        f"(CALLSHEET_GRPC_ADDRESS, else {DEFAULT_ADDRESS})",
    )
    group.add_argument(
        "--key",
        help=f"the API key (CALLSHEET_API_KEY, else the content of {DEVELOPMENT_KEY})",
    )
    group.add_argument("--project", help="the project (CALLSHEET_PROJECT, else the key's own)")
    group.add_argument("--tls-ca", metavar="FILE", type=Path, help="trust this CA; means TLS")
    group.add_argument(
        "--call-timeout",
        metavar="SPAN",
        type=parse_span,
        default=parse_span("10s"),
        help="how long one call may last, all its tries together (default: 10s)",
    )


def target(options: argparse.Namespace) -> Target:
    """Return the plane that options and environment name. Raises UsageError without a key."""
    address = address_of(options)
    return Target(
        address=address.removeprefix(_TLS_PREFIX),
        key=options.key or os.environ.get("CALLSHEET_API_KEY") or _development_key(),
        project=options.project or os.environ.get("CALLSHEET_PROJECT", ""),
        tls=address.startswith(_TLS_PREFIX),
        tls_ca=options.tls_ca,
        call_timeout=options.call_timeout,
    )


def address_of(options: argparse.Namespace) -> str:
    """Return the address that options and environment name."""
    given: str | None = getattr(options, "address", None)
    return given or os.environ.get("CALLSHEET_GRPC_ADDRESS") or DEFAULT_ADDRESS


def _development_key() -> str:
    if not DEVELOPMENT_KEY.exists():
        raise UsageError(
            f"no API key: give --key, set CALLSHEET_API_KEY, or run where {DEVELOPMENT_KEY} is"
        )
    return _read(DEVELOPMENT_KEY).decode(errors="replace").strip()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
