"""Who calls the fake plane: its one key, and the tickets made with it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.client.errors import FailedPrecondition, NotFound, PermissionDenied
from callsheet.v1 import access_service_pb2, access_service_pb2_grpc

if TYPE_CHECKING:
    from callsheet.client.testing.plane import FakePlane
    from callsheet.client.testing.wire import Context, Wire

_KEY_ID: Final = "fake0000"
_USUAL_LIFE: Final = timedelta(hours=1)
_ROLES: Final = (
    access_service_pb2.ROLE_SUBMIT,
    access_service_pb2.ROLE_READ,
    access_service_pb2.ROLE_OPERATE,
)


class FakeAccessServicer(access_service_pb2_grpc.AccessServiceServicer):
    """AccessService; a ticket's roles are not checked; it never expires, and is revoked alone."""

    def __init__(self, plane: FakePlane, wire: Wire) -> None:
        self._plane = plane
        self._wire = wire

    async def GetPrincipal(
        self, request: access_service_pb2.GetPrincipalRequest, context: Context
    ) -> access_service_pb2.GetPrincipalResponse:
        async def produce() -> access_service_pb2.GetPrincipalResponse:
            return access_service_pb2.GetPrincipalResponse(principal=self._caller(context))

        return await self._wire.answer(context, request, produce, method="GetPrincipal")

    async def CreateTicket(
        self, request: access_service_pb2.CreateTicketRequest, context: Context
    ) -> access_service_pb2.CreateTicketResponse:
        async def produce() -> access_service_pb2.CreateTicketResponse:
            return self._ticket(request, context)

        return await self._wire.answer(context, request, produce, method="CreateTicket")

    async def RenewTicket(
        self, request: access_service_pb2.RenewTicketRequest, context: Context
    ) -> access_service_pb2.RenewTicketResponse:
        async def produce() -> access_service_pb2.RenewTicketResponse:
            return self._renewed(request, self._shown(context))

        return await self._wire.answer(context, request, produce, method="RenewTicket")

    async def RevokeTicket(
        self, request: access_service_pb2.RevokeTicketRequest, context: Context
    ) -> access_service_pb2.RevokeTicketResponse:
        async def produce() -> access_service_pb2.RevokeTicketResponse:
            self._shown(context)
            self._wire.tickets.pop(self._wire.credential(context))
            return access_service_pb2.RevokeTicketResponse()

        return await self._wire.answer(context, request, produce, method="RevokeTicket")

    def _caller(self, context: Context) -> access_service_pb2.Principal:
        ticket = self._wire.tickets.get(self._wire.credential(context))
        return ticket or access_service_pb2.Principal(
            key_id=_KEY_ID, projects=[self._plane.project], roles=_ROLES
        )

    def _ticket(
        self, request: access_service_pb2.CreateTicketRequest, context: Context
    ) -> access_service_pb2.CreateTicketResponse:
        if self._wire.credential(context) in self._wire.tickets:
            raise PermissionDenied("a ticket cannot make tickets", reason="KEY_NEEDED")
        for project in request.projects:
            if project != self._plane.project:
                raise NotFound(f"there is no project {project}", reason="PROJECT_NOT_FOUND")
        life = _life(request)
        stands_for = access_service_pb2.Principal(
            key_id=_KEY_ID, projects=[self._plane.project], roles=request.roles or _ROLES
        )
        if request.HasField("renewable_for"):
            renewals = request.renewable_for.ToTimedelta()
            life = min(life, renewals)
            stands_for.renewal_end_time.CopyFrom(_after(renewals))
        text, expire_time = self._made(stands_for, life)
        return access_service_pb2.CreateTicketResponse(ticket=text, expire_time=expire_time)

    def _renewed(
        self, request: access_service_pb2.RenewTicketRequest, shown: access_service_pb2.Principal
    ) -> access_service_pb2.RenewTicketResponse:
        if not shown.HasField("renewal_end_time"):
            raise FailedPrecondition(
                "the ticket was made without renewals", reason="TICKET_NOT_RENEWABLE"
            )
        renewals = shown.renewal_end_time.ToDatetime() - _after(timedelta()).ToDatetime()
        text, expire_time = self._made(shown, min(_life(request), renewals))
        return access_service_pb2.RenewTicketResponse(ticket=text, expire_time=expire_time)

    def _shown(self, context: Context) -> access_service_pb2.Principal:
        shown = self._wire.tickets.get(self._wire.credential(context))
        if shown is None:
            raise PermissionDenied("it takes a ticket", reason="TICKET_NEEDED")
        return shown

    def _made(
        self, stands_for: access_service_pb2.Principal, life: timedelta
    ) -> tuple[str, Timestamp]:
        text, made = f"ct_{secrets.token_urlsafe(24)}.fake", access_service_pb2.Principal()
        made.CopyFrom(stands_for)
        made.expire_time.CopyFrom(_after(life))
        made.time_left.FromTimedelta(life)
        self._wire.tickets[text] = made
        return text, made.expire_time


def _after(length: timedelta) -> Timestamp:
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.FromDatetime(moment.ToDatetime() + length)
    return moment


def _life(
    request: access_service_pb2.CreateTicketRequest | access_service_pb2.RenewTicketRequest,
) -> timedelta:
    return request.time_to_live.ToTimedelta() if request.HasField("time_to_live") else _USUAL_LIFE
