"""AccessService: decode, one question, encode."""

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
        limited = request.HasField("time_to_live")
        ticket, expire_time = await self._credentials.make_ticket(
            call.principal,
            time_to_live=request.time_to_live.ToTimedelta() if limited else USUAL_LIFE,
            roles=frozenset(ROLE_FROM_PROTO[role] for role in request.roles),
            projects=frozenset(request.projects),
        )
        return CreateTicketResponse(ticket=ticket, expire_time=timestamp(expire_time))
