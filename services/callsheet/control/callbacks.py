"""Where webhooks may be asked to go, as far as a URL tells without asking DNS.

The sidecar looks at every resolved address again when it dials; this refuses early, and by name.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from callsheet.ledger.errors import InvalidField
from callsheet.runtime.addresses import is_numeric, literal, may_dial, plain_host
from callsheet.runtime.targets import TargetRefused, parse_target

FIELD: Final = "callback.url"

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_LONGEST_HOST: Final = 253


class CallbackRules:
    """Says which URLs are refused; *http* and *loopback* say what a setting allows beyond https."""

    def __init__(self, *, http: bool, loopback: bool) -> None:
        self._http = http
        self._loopback = loopback

    def check(self, url: str) -> None:
        """Raise InvalidField when webhooks may not go to the URL."""
        problem = self._problem(url)
        if problem:
            raise InvalidField(((FIELD, problem),))

    def _problem(self, url: str) -> str:
        if "\\" in url or not url.isprintable():
            return "must not contain backslashes or control characters"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return "has no well-formed host and port"
        try:
            # As the sidecar will read it: a URL that two parsers understand is one both can dial.
            parse_target(url)
        except TargetRefused:
            return "has no well-formed host and port"
        if parts.scheme == "http" and not self._http:
            return "must be an https URL"
        if "@" in parts.netloc:
            return "must not carry a user or password"
        if port == 0:
            return "has no well-formed host and port"
        return self._host_problem(parts)

    def _host_problem(self, parts: SplitResult) -> str:
        host = plain_host(parts.hostname or "")
        address = literal(host)
        if address is not None:
            allowed = may_dial(address, loopback=self._loopback)
            return "" if allowed else f"goes to {address}, which is not a public address"
        name = _ascii_name(host)
        if not name or is_numeric(name):
            return "has no well-formed host and port"
        if name == "localhost" or name.endswith(".localhost"):
            return "" if self._loopback else f"goes to {name}, which is not a public address"
        return ""


def _ascii_name(host: str) -> str:
    """Return the host's name as DNS knows it; empty when it cannot be one."""
    try:
        name = host.removesuffix(".").encode("idna").decode()
    except UnicodeError:
        return ""
    well_formed = all(_LABEL.fullmatch(label) for label in name.split("."))
    return name if well_formed and len(name) <= _LONGEST_HOST else ""
