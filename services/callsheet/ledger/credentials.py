"""What callers show: keys and tickets, recognised; and tickets, made."""

import secrets
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, cast

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import (
    InvalidField,
    KeyInvalid,
    KeyNeeded,
    LedgerError,
    TicketExpired,
    UnknownVersion,
)
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.keys import key_id_of, principal_of, read_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.tickets import PREFIX, SignedTicket, Ticket, read_ticket, sign_ticket

#: Key ids of one question; more would hold the server for milliseconds.
ASKED: Final = 512
#: The longest text of a ticket, as the contract says.
LONGEST: Final = 2048

# Tells what is kept of keys, and what tickets are checked with.
#
# KEYS      key records, the secret of tickets
# ARGV      key id for each
# Returns   {now, secret or '', {key record or ''}…}
_RECOGNISE: Final = r"""
local T = redis.call('TIME')
local out = redis.call('HMGET', KEYS[1], unpack(ARGV))
for i = 1, #ARGV do out[i] = out[i] or '' end
return {string.format('%.0f', T[1] * 1000000 + T[2]), redis.call('GET', KEYS[2]) or '', out}
"""

# Answers the secret of tickets, and makes it when there is none. Signing in must go on when memory
# has run out.
#
# KEYS[1]   the secret of tickets
# ARGV[1]   the secret, if there is none
# Returns   {now, secret}
_SIGNING: Final = r"""#!lua flags=allow-oom
local T = redis.call('TIME')
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return {string.format('%.0f', T[1] * 1000000 + T[2]), redis.call('GET', KEYS[1])}
"""

#: Whom a text stands for, or why for nobody.
Verdict = Principal | KeyInvalid | TicketExpired
#: A text whose form is good: a key's, or a ticket as it was sent.
_Form = str | SignedTicket


class Credentials:
    """Recognises keys and tickets, and makes tickets. Every method may raise LedgerUnavailable."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def recognise(self, text: str) -> Principal:
        """Return whoever the text of a key or ticket stands for.

        Raises:
            KeyInvalid: it is empty, malformed, forged or unknown, or its key was revoked.
            TicketExpired: the ticket's time is over.
        """
        verdict = (await self.recognise_all([text]))[text]
        if isinstance(verdict, LedgerError):
            raise verdict
        return verdict

    async def recognise_all(self, texts: Collection[str]) -> dict[str, Verdict]:
        """Return whom each text stands for, or why for nobody."""
        verdicts: dict[str, Verdict] = {}
        forms: dict[str, tuple[str, _Form]] = {}
        for text in texts:
            try:
                forms[text] = _form(text)
            except KeyInvalid as error:
                verdicts[text] = error
        ids = sorted({key_id for key_id, _ in forms.values()})
        for start in range(0, len(ids), ASKED):
            known = ids[start : start + ASKED]
            now, secret, records = await self._kept(known)
            for text, (key_id, form) in forms.items():
                if key_id in records:
                    verdicts[text] = _verdict(form, text, records[key_id], secret=secret, now=now)
        return verdicts

    async def make_ticket(
        self,
        principal: Principal,
        *,
        time_to_live: timedelta,
        roles: frozenset[Role],
        projects: frozenset[str],
    ) -> tuple[str, datetime]:
        """Return the text of a new ticket, and when it expires. No roles, no projects: all.

        Raises:
            KeyNeeded: the principal shows a ticket.
            RoleMissing: its key has not such a role.
            ProjectNotFound: its key has not such a project.
        """
        if principal.expire_time is not None:
            raise KeyNeeded
        for role in sorted(roles, key=lambda role: role.value):
            principal.require(role)
        for project in sorted(projects):
            principal.project(project)
        reply = await self._connection.script(
            _SIGNING, [self._keys.ticket_secret], [secrets.token_hex(32)]
        )
        now, secret = cast("tuple[bytes, bytes]", reply)
        expire_time = instant(int(now)) + time_to_live
        text = sign_ticket(secret, Ticket(principal.key_id, roles, projects, expire_time))
        if len(text) > LONGEST:
            raise InvalidField((("projects", "are too many for one ticket: name fewer"),))
        return text, expire_time

    async def _kept(self, key_ids: list[str]) -> tuple[datetime, bytes, Mapping[str, bytes]]:
        places = [self._keys.api_keys, self._keys.ticket_secret]
        reply = await self._connection.script(_RECOGNISE, places, key_ids)
        now, secret, records = cast("tuple[bytes, bytes, list[bytes]]", reply)
        return instant(int(now)), secret, dict(zip(key_ids, records, strict=True))


def _form(text: str) -> tuple[str, _Form]:
    """Return the key's id, and what else the text says. Raises KeyInvalid."""
    if not text.startswith(PREFIX):
        return key_id_of(text), text
    try:
        signed = read_ticket(text)
    except UnknownVersion:
        raise KeyInvalid from None  # nobody but a newer control, or a forger, wrote it
    return signed.ticket.key_id, signed


def _verdict(form: _Form, text: str, record: bytes, *, secret: bytes, now: datetime) -> Verdict:
    try:
        if isinstance(form, str):
            return principal_of(record or None, text)
        return form.allows(secret, _key(record), now=now)
    except (KeyInvalid, TicketExpired) as error:
        return error


def _key(record: bytes) -> Principal:
    """Return whom a ticket's key stands for. Raises KeyInvalid when it was revoked."""
    if not record:
        raise KeyInvalid
    return read_key(record).principal
