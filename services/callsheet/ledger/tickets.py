"""Tickets: what they say, signed with the cell's secret, as a text that is sent like a key."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from callsheet.internal.v1.ticket_record_pb2 import TicketRecord
from callsheet.ledger.access import Principal, Role, Ticket
from callsheet.ledger.errors import KeyInvalid, TicketExpired
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.unreadable import loudly
from callsheet.v1 import access_service_pb2

#: What every ticket's text begins with; a key's begins with cs_.
PREFIX: Final = "ct_"
#: How long one is good for that does not say so, and the longest there is.
USUAL_LIFE: Final = timedelta(hours=1)
LONGEST_LIFE: Final = timedelta(hours=12)
VERSION: Final = 1
#: Bytes of a ticket's id: nobody makes so many that two are alike.
ID_BYTES: Final = 12

ROLE_TO_PROTO: Final[Mapping[Role, access_service_pb2.Role.ValueType]] = {
    role: access_service_pb2.Role.Value(f"ROLE_{role.name}") for role in Role
}
ROLE_FROM_PROTO: Final = {number: role for role, number in ROLE_TO_PROTO.items()}

#: The content and its signature, 2,048 characters at most.
_TEXT: Final = re.compile(r"ct_([A-Za-z0-9_-]{1,2000})\.([A-Za-z0-9_-]{43})", re.ASCII)
#: Stands before what is signed, so that no other signature with this secret can pass for one.
_PURPOSE: Final = b"callsheet-ticket-1\0"


@dataclass(frozen=True, slots=True)
class SignedTicket:
    """A ticket as somebody sent it: whether it is genuine, only the secret tells."""

    ticket: Ticket
    content: bytes
    signature: bytes

    def allows(self, secret: bytes, key: Principal, *, now: datetime) -> Principal:
        """Return whom it stands for, unless it was revoked, by what its key allows now.

        Raises:
            KeyInvalid: it is not signed with the secret.
            TicketExpired: its time is over.
        """
        if not secret or not hmac.compare_digest(self.signature, _signature(secret, self.content)):
            raise KeyInvalid
        if self.ticket.expire_time <= now:
            raise TicketExpired
        return Principal(
            key.key_id,
            key.projects & self.ticket.projects if self.ticket.projects else key.projects,
            key.roles & self.ticket.roles if self.ticket.roles else key.roles,
            self.ticket,
            self.ticket.expire_time - now,
        )


def sign_ticket(secret: bytes, ticket: Ticket) -> str:
    """Return the ticket's text."""
    content = TicketRecord(
        version=VERSION,
        key_id=ticket.key_id,
        roles=sorted(ROLE_TO_PROTO[role] for role in ticket.roles),
        projects=sorted(ticket.projects),
        expire_time=microseconds(ticket.expire_time),
        id=bytes.fromhex(ticket.id),
        renewal_end_time=microseconds(ticket.renewal_end_time) if ticket.renewal_end_time else 0,
    ).SerializeToString()
    return f"{PREFIX}{_text(content)}.{_text(_signature(secret, content))}"


def read_ticket(text: str) -> SignedTicket:
    """Return what a text says that may be a ticket's.

    Raises:
        KeyInvalid: it is not well formed.
        UnknownVersion: it is not of a version that this code knows.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise KeyInvalid
    content, signature = _bytes(match[1]), _bytes(match[2])
    return SignedTicket(_ticket(content), content, signature)


@loudly("ticket")
def _ticket(content: bytes) -> Ticket:
    record = TicketRecord.FromString(content)
    if record.version != VERSION or len(record.id) != ID_BYTES:
        raise ValueError(record.version)
    return Ticket(
        id=record.id.hex(),
        key_id=record.key_id,
        roles=frozenset(ROLE_FROM_PROTO[role] for role in record.roles),
        projects=frozenset(record.projects),
        expire_time=instant(record.expire_time),
        renewal_end_time=instant(record.renewal_end_time) if record.renewal_end_time else None,
    )


def _signature(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + content, "sha256")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise KeyInvalid from error
