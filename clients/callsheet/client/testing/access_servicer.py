"""Who calls the fake plane: its one key, and the tickets made with it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp

from callsheet.client.errors import NotFound, PermissionDenied
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
    """AccessService; of a ticket's roles nothing is checked, and it never expires."""

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
        limited = request.HasField("time_to_live")
        expire_time = Timestamp()
        expire_time.GetCurrentTime()
        life = request.time_to_live.ToTimedelta() if limited else _USUAL_LIFE
        expire_time.FromDatetime(expire_time.ToDatetime() + life)
        text = f"ct_{secrets.token_urlsafe(24)}.fake"
        self._wire.tickets[text] = access_service_pb2.Principal(
            key_id=_KEY_ID,
            projects=[self._plane.project],
            roles=request.roles or _ROLES,
            expire_time=expire_time,
        )
        return access_service_pb2.CreateTicketResponse(ticket=text, expire_time=expire_time)
