"""`callsheetd webhooks`: what receivers of webhooks need, kept by whoever runs the plane."""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from callsheet.embedded.key_commands import CommandRefused
from callsheet.embedded.redis_access import ledger_redis
from callsheet.ledger.delivery_model import parse_line
from callsheet.ledger.index import Keys
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.webhook_registry import SecretNotRotating, WebhookRegistry
from callsheet.runtime.secrets import load_master_key, seal, webhook_secret
from callsheet.runtime.settings import Settings
from callsheet.runtime.targets import TargetRefused, parse_target

#: What of stdin is read: more is no key.
_LONGEST_KEY: Final = 512
_KEY: Final = re.compile(r"[\x21-\x7e]{8,512}")

_Shown = Mapping[str, str | int]


async def webhooks_command(settings: Settings, asked: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises CommandRefused, and what reading the master key or reaching the ledger raises.
    """
    async with ledger_redis(settings) as redis:
        registry = WebhookRegistry(RedisConnection(redis), Keys(settings.cell))
        match asked.group, asked.action:
            case "secret", action:
                await _secret(settings, registry, asked, action=action)
            case "origin", "add":
                await _add_origin(settings, registry, asked)
            case "origin", "list":
                await _list_origins(registry, asked)
            case "origin", _:
                await _remove_origin(registry, asked)
            case _, "list":
                await _list_endpoints(registry, asked)
            case _:
                await _enable(registry, asked)


async def _secret(
    settings: Settings, registry: WebhookRegistry, asked: argparse.Namespace, *, action: str
) -> None:
    """Print the secrets that sign the project's webhooks from now on, the newest first."""
    master_key = load_master_key(settings)
    try:
        match action:
            case "rotate":
                versions = await registry.rotate_secret(asked.project)
            case "finish":
                versions = await registry.finish_rotation(asked.project)
            case _:
                versions = await registry.secret_versions(asked.project)
    except SecretNotRotating as refusal:
        raise CommandRefused(str(refusal)) from refusal
    if action == "show" and asked.version is not None:
        versions = (asked.version,)
    secrets = [
        {"version": version, "secret": webhook_secret(master_key, asked.project, version)}
        for version in versions
    ]
    if asked.json:
        print(json.dumps({"project": asked.project, **secrets[0], "secrets": secrets}))
        return
    for secret in secrets:
        print(secret["secret"])


async def _add_origin(
    settings: Settings, registry: WebhookRegistry, asked: argparse.Namespace
) -> None:
    origin = _origin(asked.origin, http=settings.webhook_allow_http)
    key = _given_key(asked.key_variable)
    sealed = seal(load_master_key(settings), key)
    await registry.add_origin(asked.project, origin, sealed_key=sealed)
    _print_one(
        {"project": asked.project, "origin": origin},
        text=f"{origin} gets the key with webhooks of {asked.project}",
        as_json=asked.json,
    )


async def _list_origins(registry: WebhookRegistry, asked: argparse.Namespace) -> None:
    found = [
        {
            "project": each.project,
            "origin": each.origin,
            "create_time": each.create_time.isoformat(timespec="seconds"),
        }
        for each in (await registry.read()).origins
        if asked.project in (None, each.project)
    ]
    _print_all(sorted(found, key=lambda each: (each["project"], each["origin"])), asked)


async def _remove_origin(registry: WebhookRegistry, asked: argparse.Namespace) -> None:
    origin = _origin(asked.origin, http=True)
    if not await registry.remove_origin(asked.project, origin):
        raise CommandRefused(f"{origin} gets no key with webhooks of {asked.project}")
    _print_one(
        {"project": asked.project, "origin": origin, "removed": True},
        text=f"{origin} gets no key with webhooks of {asked.project} any more",
        as_json=asked.json,
    )


async def _list_endpoints(registry: WebhookRegistry, asked: argparse.Namespace) -> None:
    found: list[_Shown] = [
        {
            "state": "disabled",
            "project": project,
            "endpoint": disabled.url,
            "since": disabled.time.isoformat(timespec="seconds"),
            "reason": disabled.reason,
        }
        for project, disabled in await registry.disabled()
        if asked.project in (None, project)
    ]
    for circuit in await registry.circuits():
        project, endpoint = parse_line(circuit.line)
        if asked.project in (None, project):
            is_open = circuit.retry_time is not None
            found.append(
                {
                    "state": "away" if is_open else "failing",
                    "project": project,
                    "endpoint": endpoint,
                    "failures": circuit.failures,
                }
            )
    _print_all(found, asked)


async def _enable(registry: WebhookRegistry, asked: argparse.Namespace) -> None:
    if not await registry.enable(asked.project, asked.url):
        raise CommandRefused(f"{asked.url} is not disabled for {asked.project}")
    _print_one(
        {"project": asked.project, "endpoint": asked.url, "enabled": True},
        text=f"webhooks of {asked.project} go to {asked.url} again",
        as_json=asked.json,
    )


def _origin(text: str, *, http: bool) -> str:
    """Return the origin as sidecars compare it. Raises CommandRefused."""
    try:
        target = parse_target(text)
    except TargetRefused as refusal:
        raise CommandRefused(f"{text!r} is no origin: {refusal}") from refusal
    if target.path != b"/":
        raise CommandRefused(f"{text!r} is no origin: it has a path, and a key is for all of them")
    if not target.tls and not http:
        raise CommandRefused(f"{text!r} is not https, and the settings ask for it")
    return target.origin


def _given_key(variable: str | None) -> str:
    """Return the key that was given in the variable or on stdin, never on the command line."""
    if variable is None:
        text = sys.stdin.read(_LONGEST_KEY + 2)
    else:
        text = os.environ.get(variable, "")
        if not text:
            raise CommandRefused(f"the environment variable {variable} is empty or not set")
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise CommandRefused("a key has 8 to 512 visible ASCII characters, and no spaces")
    return key


def _print_one(shown: Mapping[str, object], *, text: str, as_json: bool) -> None:
    print(json.dumps(shown) if as_json else text)


def _print_all(found: Sequence[_Shown], asked: argparse.Namespace) -> None:
    if asked.json:
        print(json.dumps(found))
        return
    for each in found:
        print("  ".join(str(value) for value in each.values()))
