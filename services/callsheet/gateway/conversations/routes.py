"""`/api/v1/sessions`: begin, read, list and forget conversations, say something, find answers.

Without Redis what is said cannot be kept: 503 with Retry-After, and nothing is kept in a process
that another one would not know. What this process read lately it still shows, and says that it may
be outdated. The cache may be away at any time: then every query is a new one.
"""

from collections.abc import Awaitable
from datetime import timedelta
from http import HTTPStatus
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client.access import RoleWord
from callsheet.client.errors import Violation
from callsheet.gateway.bodies import Fields, invalid, query_fields, read_json
from callsheet.gateway.conversations.answers import Answers
from callsheet.gateway.conversations.history import History, Read
from callsheet.gateway.conversations.model import (
    CONTENT_BYTES,
    LONGEST_LIFE,
    QUERY_BYTES,
    SHORTEST_LIFE,
    SPEAKERS,
    Conversation,
)
from callsheet.gateway.conversations.store import ConversationStore
from callsheet.gateway.conversations.views import (
    Json,
    checked_message_id,
    checked_metadata,
    checked_text,
    checked_token,
    conversation_view,
    is_id,
    turn_view,
)
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.plane import Plane
from callsheet.gateway.principals import project_of, require_role
from callsheet.gateway.problems import Refused
from callsheet.gateway.side_redis import SideRedisAway, SideRedisFull
from callsheet.gateway.tasks import json_response
from callsheet.v1.access_service_pb2 import Principal

Answer = TypeVar("Answer")

#: A message of CONTENT_BYTES may take six times as many when JSON escapes each of them.
_LARGEST_BODY: Final = 8 * CONTENT_BYTES
_MOST_PER_PAGE: Final = 200
_LATER: Final = timedelta(seconds=1)
_LATER_WHEN_FULL: Final = timedelta(seconds=30)


class Conversations:
    """The routes of conversations."""

    def __init__(
        self,
        plane: Plane,
        store: ConversationStore,
        answers: Answers,
        *,
        time_to_live: timedelta,
        most: int,
    ) -> None:
        """*time_to_live*: of a conversation that asks for none; *most*: of one project."""
        self._plane = plane
        self._store = store
        self._answers = answers
        self._history = History(store)
        self._time_to_live = time_to_live
        self._most = most

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        one = "/api/v1/sessions/{session_id}"
        return [
            Route("/api/v1/sessions", self.create, methods=["POST"]),
            Route("/api/v1/sessions", self.list, methods=["GET"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/messages", self.append, methods=["POST"]),
            Route(f"{one}/messages", self.read, methods=["GET"]),
            Route(f"{one}/query", self.find_answer, methods=["POST"]),
            Route(f"{one}/answers", self.keep_answer, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """Begin a conversation: 201."""
        principal = await self._principal(request, "submit")
        fields = Fields(await read_json(request, limit=_LARGEST_BODY, optional=True))
        project = project_of(principal, fields.text("project_id"))
        metadata = checked_metadata(fields.texts("metadata"))
        life = fields.seconds("time_to_live")
        fields.done()
        if life is not None and not SHORTEST_LIFE <= life <= LONGEST_LIFE:
            raise invalid([Violation("time_to_live", "must be 60 to 2592000 seconds")])
        made = await _answered(
            self._store.create(
                project,
                metadata=metadata,
                time_to_live=life or self._time_to_live,
                most=self._most,
            )
        )
        if made is None:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "SESSIONS_EXHAUSTED",
                f"the project has {self._most} sessions already",
                retry_after=_LATER_WHEN_FULL,
            )
        return json_response(conversation_view(made), status=HTTPStatus.CREATED)

    async def list(self, request: Request) -> Response:
        """Return a page of a project's conversations, the last used first."""
        principal = await self._principal(request, "read")
        fields = query_fields(request)
        project = project_of(principal, fields.text("project_id"))
        size = fields.number("page_size", least=1, most=_MOST_PER_PAGE) or 50
        token = fields.text("page_token")
        fields.done()
        page = await _answered(
            self._store.list(project, page_size=size, page_token=checked_token(token))
        )
        sessions = [conversation_view(each) for each in page.conversations]
        return json_response({"sessions": sessions, "next_page_token": page.next_page_token})

    async def get(self, request: Request) -> Response:
        """Return a conversation, without what was said."""
        return json_response(conversation_view(await self._used(request, "read")))

    async def delete(self, request: Request) -> Response:
        """Forget a conversation: 204."""
        conversation = await self._used(request, "submit")
        self._history.forget(conversation.id)
        await _answered(self._store.delete(conversation))
        await self._answers.forget(conversation)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def append(self, request: Request) -> Response:
        """Say something: 201; said again with the same message_id it is 201 with the first one."""
        conversation = await self._used(request, "submit")
        fields = Fields(await read_json(request, limit=_LARGEST_BODY))
        speaker = fields.word("role", SPEAKERS)
        content = fields.text("content", required=True)
        id_ = fields.text("message_id")
        metadata = fields.texts("metadata")
        fields.done()
        if speaker is None:
            raise invalid([Violation("role", "is required")])
        turn = await _answered(
            self._store.append(
                conversation,
                speaker=speaker,
                content=checked_text("content", content, most=CONTENT_BYTES),
                id_=checked_message_id(id_),
                metadata=checked_metadata(metadata),
            )
        )
        if turn is None:
            raise _not_found()
        return json_response(turn_view(turn), status=HTTPStatus.CREATED)

    async def read(self, request: Request) -> Response:
        """Return what was said behind a sequence, oldest first; 304 when that is known already."""
        fields = query_fields(request)
        after = fields.number("after", least=0, most=2**53) or 0
        limit = fields.number("limit", least=1, most=1000) or 1000
        fields.done()
        try:
            conversation = await self._used(request, "read")
            turns = await _answered(self._history.of(conversation))
            stale = False
        except _Away as away:
            conversation, turns = await self._remembered(request, away)
            stale = True
        etag = f'"{conversation.sequence}-{after}-{limit}"'
        if not stale and request.headers.get("if-none-match") == etag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": etag})
        found = [turn_view(turn) for turn in turns if turn.sequence > after][:limit]
        said: Json = {
            "session_id": conversation.id,
            "messages": found,
            "sequence": conversation.sequence,
            "first_sequence": conversation.first_sequence,
            "stale": stale,
        }
        answer = json_response(said)
        if not stale:
            answer.headers["etag"] = etag
        return answer

    async def find_answer(self, request: Request) -> Response:
        """Return the answer that was kept for a query since the last message, if there is one."""
        conversation = await self._used(request, "read")
        fields = Fields(await read_json(request, limit=_LARGEST_BODY))
        query = fields.text("query", required=True)
        fields.done()
        found = await self._answers.find(
            conversation, checked_text("query", query, most=QUERY_BYTES)
        )
        return json_response(
            {
                "cached": found.answer is not None,
                "answer": found.answer,
                "sequence": conversation.sequence,
                "cache": "asked" if found.asked else "unavailable",
            }
        )

    async def keep_answer(self, request: Request) -> Response:
        """Keep the answer to a query, until the next message; 409 when there was one meanwhile."""
        conversation = await self._used(request, "submit")
        fields = Fields(await read_json(request, limit=_LARGEST_BODY))
        query = fields.text("query", required=True)
        answer = fields.text("answer", required=True)
        sequence = fields.number("sequence", least=0, most=2**53)
        fields.done()
        if sequence is not None and sequence != conversation.sequence:
            raise Refused(
                HTTPStatus.CONFLICT,
                "SESSION_MOVED_ON",
                f"the session is at sequence {conversation.sequence}, not {sequence}",
            )
        kept = await self._answers.keep(
            conversation,
            checked_text("query", query, most=QUERY_BYTES),
            checked_text("answer", answer, most=CONTENT_BYTES),
        )
        return json_response({"kept": kept, "sequence": conversation.sequence})

    async def _principal(self, request: Request, role: RoleWord) -> Principal:
        principal = await self._plane.asked_principal(credential_of(request))
        require_role(principal, role)
        return principal

    async def _used(self, request: Request, role: RoleWord) -> Conversation:
        """Return the conversation of the path. Raises Refused, 404, unless the caller may."""
        principal = await self._principal(request, role)
        id_ = request.path_params["session_id"]
        if not is_id(id_):
            raise _not_found()
        found = await _answered(self._store.use(id_, principal.projects))
        if found is None:
            self._history.forget(id_)
            raise _not_found()
        return found

    async def _remembered(self, request: Request, away: "_Away") -> Read:
        """Return what this process read last, for a caller who may read it."""
        principal = await self._principal(request, "read")
        read = self._history.remembered(request.path_params["session_id"])
        if read is None or read.conversation.project not in principal.projects:
            raise away
        return read


class _Away(Refused):
    """Redis is away, or has no space left."""


async def _answered(asked: Awaitable[Answer]) -> Answer:
    """Return what Redis answers. Raises Refused, 503, when it is away or full."""
    try:
        return await asked
    except SideRedisFull as error:
        raise _Away(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "SESSIONS_FULL",
            "there is no space left for sessions",
            retry_after=_LATER_WHEN_FULL,
        ) from error
    except SideRedisAway as error:
        raise _Away(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "SESSIONS_UNAVAILABLE",
            "the Redis of sessions is away; a message may have been kept, so send its message_id",
            retry_after=_LATER,
        ) from error


def _not_found() -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "SESSION_NOT_FOUND", "there is no such session")
