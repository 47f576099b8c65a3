"""AccessService: decode, one question, encode."""

from datetime import timedelta

from callsheet.control.calls import Call
from callsheet.control.convert import principal_to_proto
from callsheet.control.validation import Validation
from callsheet.ledger.credentials import Credentials
from callsheet.ledger.messages import timestamp
from callsheet.ledger.tickets import ROLE_FROM_PROTO, USUAL_LIFE
from callsheet.v1.access_service_pb2 import (
    CreateTicketRequest,
    CreateTicketResponse,
    GetPrincipalRequest,
    GetPrincipalResponse,
    RenewTicketRequest,
    RenewTicketResponse,
    RevokeTicketRequest,
    RevokeTicketResponse,
)


class AccessService:
    """Serves callsheet.v1.AccessService."""

    def __init__(self, credentials: Credentials, validation: Validation) -> None:
        self._credentials = credentials
        self._validation = validation

    async def GetPrincipal(self, request: GetPrincipalRequest, call: Call) -> GetPrincipalResponse:
        """Answer who calls."""
        return GetPrincipalResponse(principal=principal_to_proto(call.principal))

    async def CreateTicket(self, request: CreateTicketRequest, call: Call) -> CreateTicketResponse:
        """Answer a new ticket."""
        self._validation.check(request)
        renewable = request.HasField("renewable_for")
        ticket, expire_time = await self._credentials.make_ticket(
            call.principal,
            time_to_live=_life(request),
            renewable_for=request.renewable_for.ToTimedelta() if renewable else None,
            roles=frozenset(ROLE_FROM_PROTO[role] for role in request.roles),
            projects=frozenset(request.projects),
        )
        return CreateTicketResponse(ticket=ticket, expire_time=timestamp(expire_time))

    async def RenewTicket(self, request: RenewTicketRequest, call: Call) -> RenewTicketResponse:
        """Answer a new ticket in the place of the one that makes the call."""
        self._validation.check(request)
        ticket, expire_time = await self._credentials.renew_ticket(
            call.principal, time_to_live=_life(request)
        )
        return RenewTicketResponse(ticket=ticket, expire_time=timestamp(expire_time))

    async def RevokeTicket(self, request: RevokeTicketRequest, call: Call) -> RevokeTicketResponse:
        """Give up the ticket that makes the call."""
        await self._credentials.revoke_ticket(call.principal)
        return RevokeTicketResponse()


def _life(request: CreateTicketRequest | RenewTicketRequest) -> timedelta:
    limited = request.HasField("time_to_live")
    return request.time_to_live.ToTimedelta() if limited else USUAL_LIFE
