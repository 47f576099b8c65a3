"""`callsheetd doctor`: how every part is, seen from this machine, and what mends it."""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import httpx
from pydantic import SecretStr

from callsheet.embedded.addresses_file import noted_addresses
from callsheet.embedded.brain_token import BRAIN_TOKEN_FILE
from callsheet.embedded.development_key import DEVELOPMENT_KEY_FILE
from callsheet.embedded.doctor_report import lines_of, report_of
from callsheet.embedded.embedded_brain import reached_at
from callsheet.embedded.endpoints import split_address
from callsheet.embedded.redis_access import running_embedded_url
from callsheet.runtime.checks.brain_check import load_brain
from callsheet.runtime.checks.chosen import plane_checks
from callsheet.runtime.checks.finding import Check, Finding, HealthState, looked
from callsheet.runtime.checks.gateway_check import GatewayCheck
from callsheet.runtime.checks.machine_check import MachineCheck
from callsheet.runtime.secrets import SecretUnusable, read_secret
from callsheet.runtime.settings import Settings

EXIT_WELL: Final = 0
EXIT_SOMETHING_DOWN: Final = 1

_NO_LEDGER: Final = Finding(
    state=HealthState.DOWN,
    reason="no plane runs in the state folder",
    mend="run `callsheetd up` here, or set REDIS_URL to the Redis of a plane that runs",
)
#: A person waits, and rather for an answer than for none: a part has some seconds of its own.
_LOOK_TIME: Final = timedelta(seconds=30)
#: What the gateway knows of since when is worth a moment, not more.
_HEALTH_SECONDS: Final = 1.0
_LARGEST_ANSWER: Final = 2**20

_Told = dict[str, dict[str, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Examined:
    """A part, how it was found, and since when, if the gateway knows."""

    name: str
    finding: Finding
    since: str | None = None


def run_doctor(settings: Settings, *, as_json: bool) -> int:
    """Print how every part is; return 1 when something is down, else 0."""
    found = asyncio.run(examine(settings))
    if as_json:
        print(json.dumps(report_of(found)))
    else:
        for line in lines_of(found):
            print(line)
    is_down = any(each.finding.state is HealthState.DOWN for each in found)
    return EXIT_SOMETHING_DOWN if is_down else EXIT_WELL


async def examine(settings: Settings) -> Sequence[Examined]:
    """Look at every part once, all at the same time, and then at the gateway."""
    here, found = as_found_here(settings)
    if here.brain_ws_url is not None:
        # Now, for it keeps the whole process busy, and no part shall be found slow for that.
        load_brain()
    checks: list[Check] = [MachineCheck(here.state_dir)]
    async with plane_checks(here, jitter=secrets.SystemRandom().random) as plane:
        checks += plane
        looks = (looked(check, timeout=_LOOK_TIME) for check in checks)
        findings = await asyncio.gather(*looks)
    if not _is_unknown(here.gateway_address):
        # Its client takes a moment to make, for which no other part shall be found slow.
        checks.append(GatewayCheck(reached_at(here.gateway_address)))
        findings.append(await looked(checks[-1], timeout=_LOOK_TIME))
    found += [Examined(check.name, each) for check, each in zip(checks, findings, strict=True)]
    since = await _known_since(here)
    return [
        Examined(each.name, each.finding, since.get((each.name, each.finding.state.value)))
        for each in found
    ]


def as_found_here(settings: Settings) -> tuple[Settings, list[Examined]]:
    """Return the settings with what a plane that runs in the state folder keeps there.

    Beside them stands what is wrong with what it keeps.
    """
    url = settings.redis_url or running_embedded_url(settings)
    noted = noted_addresses(settings.state_dir)
    given: dict[str, object] = {
        name: noted[name] for name in noted if name not in settings.model_fields_set
    }
    given["redis_url"] = url
    found = [] if url is not None else [Examined("redis", _NO_LEDGER)]
    try:
        if settings.health_key is None and (key := _kept(settings, DEVELOPMENT_KEY_FILE)):
            given["health_key"] = key
        # The token is the embedded brain's, and goes to no other.
        if "brain_ws_url" in given and (token := _kept(settings, BRAIN_TOKEN_FILE)):
            given["brain_token"] = settings.brain_token or token
    except SecretUnusable as error:
        found.append(Examined("secrets", _secret_finding(error)))
    return settings.model_copy(update=given), found


def _secret_finding(error: SecretUnusable) -> Finding:
    return Finding(
        state=HealthState.DOWN,
        reason="a secret in the state folder is not usable",
        detail=str(error),
        mend="give the file back to its owner alone: chmod 600",
    )


def _kept(settings: Settings, name: str) -> SecretStr | None:
    path = settings.state_dir / name
    return SecretStr(read_secret(path)) if path.exists() else None


def _is_unknown(address: str) -> bool:
    """Whether `up` chose the port, so that the settings do not know it."""
    return split_address(address)[1] == 0


async def _known_since(settings: Settings) -> Mapping[tuple[str, str], str]:
    """Return since when the gateway has known parts to be as they are, by name and state."""
    if settings.health_address == "none" or _is_unknown(settings.health_address):
        return {}
    try:
        async with httpx.AsyncClient(timeout=_HEALTH_SECONDS, trust_env=False) as http:
            answer = await http.get(f"http://{reached_at(settings.health_address)}/health")
        told = cast("_Told", json.loads(answer.content[:_LARGEST_ANSWER]))
        parts = told["components"].items()
        return {(name, part["status"]): str(part["since"]) for name, part in parts}
    except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # another program, or none: then nobody knows
