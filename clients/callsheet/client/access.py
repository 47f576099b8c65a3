"""Who calls, and tickets: a part of what a key allows, for a while."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from callsheet.client.calls import AsyncCalls
from callsheet.client.submission import to_duration
from callsheet.v1 import access_service_pb2 as access

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

#: What a key allows.
RoleWord: TypeAlias = Literal["submit", "read", "operate"]

#: The contract's words for it.
ROLES: Final[Mapping[RoleWord, access.Role.ValueType]] = MappingProxyType(
    {
        "submit": access.ROLE_SUBMIT,
        "read": access.ROLE_READ,
        "operate": access.ROLE_OPERATE,
    }
)


_WORDS: Final[Mapping[int, RoleWord]] = MappingProxyType(
    {role: word for word, role in ROLES.items()}
)


def role_word(role: int) -> str:
    """Return what a role is called; its number for one that is newer than this client."""
    return _WORDS.get(role, str(role))


class AsyncAccess(AsyncCalls):
    """The side of the client that asks who it is."""

    async def principal(self) -> access.Principal:
        """Return whom the client's key or ticket stands for. Raises CallError."""
        response = await self._connection.call(
            self._connection.access.GetPrincipal,
            access.GetPrincipalRequest(),
            timeout=self._timeout,
        )
        return response.principal

    async def create_ticket(
        self,
        *,
        time_to_live: timedelta | None = None,
        roles: Iterable[RoleWord] = (),
        projects: Iterable[str] = (),
        renewable_for: timedelta | None = None,
    ) -> access.CreateTicketResponse:
        """Return a new ticket: it is sent like a key, and allows a part of what the key does.

        It is good for ``time_to_live``, at most 12 hours; None: for an hour. Without ``roles`` or
        ``projects`` it allows those of the key. It can be renewed for ``renewable_for``, at most
        12 hours, past which neither it nor what was made of it is good; None: it cannot.

        Raises PermissionDenied when the client itself calls with a ticket, or its key has not such
        a role; NotFound when it has not such a project; CallError.
        """
        request = access.CreateTicketRequest(
            roles=[ROLES[role] for role in roles],
            projects=projects,
            time_to_live=None if time_to_live is None else to_duration(time_to_live),
            renewable_for=None if renewable_for is None else to_duration(renewable_for),
        )
        return await self._connection.call(
            self._connection.access.CreateTicket, request, timeout=self._timeout
        )

    async def renew_ticket(
        self, *, time_to_live: timedelta | None = None
    ) -> access.RenewTicketResponse:
        """Return a ticket like the one the client calls with, good from now on.

        It is good for ``time_to_live``, at most 12 hours; None: for an hour; never for longer than
        the first one was renewable for.

        Raises PermissionDenied when the client calls with a key; FailedPrecondition when its ticket
        was made without renewals; CallError.
        """
        request = access.RenewTicketRequest(
            time_to_live=None if time_to_live is None else to_duration(time_to_live)
        )
        return await self._connection.call(
            self._connection.access.RenewTicket, request, timeout=self._timeout
        )

    async def revoke_ticket(self) -> None:
        """Give up the ticket the client calls with, and all that share its renewals.

        Raises PermissionDenied when the client calls with a key; CallError.
        """
        await self._connection.call(
            self._connection.access.RevokeTicket,
            access.RevokeTicketRequest(),
            timeout=self._timeout,
        )
