"""What callers show: keys and tickets, recognised; and tickets, made, renewed and revoked."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple, cast

from callsheet.ledger.access import Principal, Role, Ticket
from callsheet.ledger.errors import (
    InvalidField,
    KeyInvalid,
    KeyNeeded,
    LedgerError,
    TicketExpired,
    TicketNeeded,
    TicketNotRenewable,
    TicketRevoked,
    UnknownVersion,
)
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.keys import key_id_of, principal_of, read_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.tickets import ID_BYTES, PREFIX, SignedTicket, read_ticket, sign_ticket

#: Texts of one question; more would hold the server for milliseconds.
ASKED: Final = 512
#: The longest text of a ticket, as the contract says.
LONGEST: Final = 2048

# Tells what is kept of keys, what tickets are checked with, and which of them were given up.
#
# KEYS[1]   key records
# KEYS[2]   the secret of tickets
# KEYS[3…]  the marks of revoked tickets
# ARGV      key ids
# Returns   {now, secret or '', {key record or ''}…, {1 if the ticket was given up, else 0}…}
_RECOGNISE: Final = r"""
local T = redis.call('TIME')
local records = redis.call('HMGET', KEYS[1], unpack(ARGV))
for i = 1, #ARGV do records[i] = records[i] or '' end
local revoked = {}
for i = 3, #KEYS do revoked[i - 2] = redis.call('EXISTS', KEYS[i]) end
local now = string.format('%.0f', T[1] * 1000000 + T[2])
return {now, redis.call('GET', KEYS[2]) or '', records, revoked}
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

# Marks a ticket as given up, while it would be good. Signing out must go on when memory has
# run out.
#
# KEYS[1]   the ticket's mark
# ARGV[1]   until when, in milliseconds since 1970
# Returns   1
_REVOKE: Final = r"""#!lua flags=allow-oom
redis.call('SET', KEYS[1], '', 'PXAT', ARGV[1])
return 1
"""

#: How much longer than the ticket its mark is kept: both end by the same clock.
_MARGIN: Final = timedelta(seconds=1)
_MILLISECOND: Final = 1_000

#: Whom a text stands for, or why for nobody.
Verdict = Principal | KeyInvalid | TicketExpired | TicketRevoked
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
            TicketRevoked: the ticket was given up.
        """
        verdict = (await self.recognise_all([text]))[text]
        if isinstance(verdict, LedgerError):
            raise verdict
        return verdict

    async def recognise_all(self, texts: Collection[str]) -> dict[str, Verdict]:
        """Return whom each text stands for, or why for nobody."""
        verdicts: dict[str, Verdict] = {}
        forms: list[tuple[str, _Form]] = []
        for text in texts:
            try:
                forms.append((text, _form(text)))
            except KeyInvalid as error:
                verdicts[text] = error
        for start in range(0, len(forms), ASKED):
            asked = forms[start : start + ASKED]
            kept = await self._kept([form for _, form in asked])
            for text, form in asked:
                verdicts[text] = _verdict(form, text, kept)
        return verdicts

    async def make_ticket(
        self,
        principal: Principal,
        *,
        time_to_live: timedelta,
        roles: frozenset[Role],
        projects: frozenset[str],
        renewable_for: timedelta | None = None,
    ) -> tuple[str, datetime]:
        """Return the text of a new ticket, and when it expires. No roles, no projects: all.

        None of it, and of what is made of it by renewal, is good past *renewable_for*; None: it
        cannot be renewed.

        Raises:
            KeyNeeded: the principal shows a ticket.
            RoleMissing: its key has not such a role.
            ProjectNotFound: its key has not such a project.
        """
        if principal.ticket is not None:
            raise KeyNeeded
        for role in sorted(roles, key=lambda role: role.value):
            principal.require(role)
        for project in sorted(projects):
            principal.project(project)
        now, secret = await self._signing()
        ticket = Ticket(
            id=secrets.token_hex(ID_BYTES),
            key_id=principal.key_id,
            roles=roles,
            projects=projects,
            expire_time=now + min(time_to_live, renewable_for or time_to_live),
            renewal_end_time=None if renewable_for is None else now + renewable_for,
        )
        text = sign_ticket(secret, ticket)
        if len(text) > LONGEST:
            raise InvalidField((("projects", "are too many for one ticket: name fewer"),))
        return text, ticket.expire_time

    async def renew_ticket(
        self, principal: Principal, *, time_to_live: timedelta
    ) -> tuple[str, datetime]:
        """Return the text of a ticket like the principal's, and when it expires.

        Raises:
            TicketNeeded: the principal shows a key.
            TicketNotRenewable: its ticket was made without renewals.
            TicketExpired: its renewals have ended.
        """
        before = _shown(principal)
        if before.renewal_end_time is None:
            raise TicketNotRenewable
        now, secret = await self._signing()
        if before.renewal_end_time <= now:
            raise TicketExpired
        expire_time = min(now + time_to_live, before.renewal_end_time)
        return sign_ticket(secret, replace(before, expire_time=expire_time)), expire_time

    async def revoke_ticket(self, principal: Principal) -> None:
        """Give up the principal's ticket, and all that were or will be made of it by renewal.

        Raises TicketNeeded when it shows a key.
        """
        ticket = _shown(principal)
        until = microseconds(ticket.last_time + _MARGIN) // _MILLISECOND
        await self._connection.number(_REVOKE, [self._keys.revoked_ticket(ticket.id)], [until])

    async def _signing(self) -> tuple[datetime, bytes]:
        reply = await self._connection.script(
            _SIGNING, [self._keys.ticket_secret], [secrets.token_hex(32)]
        )
        now, secret = cast("tuple[bytes, bytes]", reply)
        return instant(int(now)), secret

    async def _kept(self, forms: Collection[_Form]) -> "_Kept":
        key_ids = sorted({_key_id(form) for form in forms})
        tickets = sorted({form.ticket.id for form in forms if isinstance(form, SignedTicket)})
        marks = [self._keys.revoked_ticket(ticket) for ticket in tickets]
        places = [self._keys.api_keys, self._keys.ticket_secret, *marks]
        reply = await self._connection.script(_RECOGNISE, places, key_ids)
        now, secret, records, revoked = cast("tuple[bytes, bytes, list[bytes], list[int]]", reply)
        return _Kept(
            now=instant(int(now)),
            secret=secret,
            records=dict(zip(key_ids, records, strict=True)),
            revoked={ticket for ticket, is_so in zip(tickets, revoked, strict=True) if is_so},
        )


class _Kept(NamedTuple):
    """What Redis says of some keys and tickets."""

    now: datetime
    secret: bytes
    records: Mapping[str, bytes]
    revoked: Collection[str]


def _form(text: str) -> _Form:
    """Return what the text says. Raises KeyInvalid."""
    if not text.startswith(PREFIX):
        key_id_of(text)
        return text
    try:
        return read_ticket(text)
    except UnknownVersion:
        raise KeyInvalid from None  # nobody but a newer control, or a forger, wrote it


def _key_id(form: _Form) -> str:
    return key_id_of(form) if isinstance(form, str) else form.ticket.key_id


def _verdict(form: _Form, text: str, kept: _Kept) -> Verdict:
    record = kept.records[_key_id(form)]
    try:
        if isinstance(form, str):
            return principal_of(record or None, text)
        found = form.allows(kept.secret, _key(record), now=kept.now)
    except (KeyInvalid, TicketExpired) as error:
        return error
    return TicketRevoked() if form.ticket.id in kept.revoked else found


def _key(record: bytes) -> Principal:
    """Return whom a ticket's key stands for. Raises KeyInvalid when it was revoked."""
    if not record:
        raise KeyInvalid
    return read_key(record).principal


def _shown(principal: Principal) -> Ticket:
    if principal.ticket is None:
        raise TicketNeeded
    return principal.ticket
