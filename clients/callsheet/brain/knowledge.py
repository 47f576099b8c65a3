"""The REST route of a brain: what a project knows, for brains that have no tool for it."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import msgspec

from callsheet.brain.errors import AnswerMalformed, BrainRefused, BrainUnavailable
from callsheet.brain.records import KnowledgeItem, KnowledgeItems

_ROUTE: Final = "/api/v1/knowledge/query"
#: What is read of an answer; a longer one is malformed.
_ANSWER_BYTES: Final = 4 * 2**20
_CONNECTIONS: Final = 16
_SILENCE: Final = timedelta(minutes=5)
#: Statuses that pass by themselves.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class KnowledgeRoute:
    """Asks `POST <url>/api/v1/knowledge/query`; no redirects, no proxies of the environment.

    Raises:
        OSError: the CA file cannot be read, or is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        ca_file: Path | None = None,
        time_limit: timedelta = timedelta(seconds=10),
    ) -> None:
        self._url = url.rstrip("/") + _ROUTE
        self._time_limit = time_limit
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"} if token else None,
            verify=ssl.create_default_context(cafile=ca_file),
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            timeout=_SILENCE.total_seconds(),  # each call has its own limit for all it does
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def query(
        self,
        project: str,
        text: str,
        *,
        context_type: str = "",
        limit: int = 8,
        time_limit: timedelta | None = None,
    ) -> tuple[KnowledgeItem, ...]:
        """Return what the project knows that is nearest in meaning, at most *limit*.

        Raises:
            BrainUnavailable: it does not answer, or not now.
            BrainRefused: it answered no.
            AnswerMalformed: it answered what is no such list.
        """
        asked = {"project_id": project, "query": text, "limit": limit}
        if context_type:
            asked["context_type"] = context_type
        most = self._time_limit if time_limit is None else time_limit
        try:
            async with asyncio.timeout(most.total_seconds()):
                status, body = await self._post(asked)
        except (TimeoutError, httpx.HTTPError) as error:
            reason = str(error) or type(error).__name__
            raise BrainUnavailable(f"the knowledge route: {reason}", was_sent=True) from error
        if status in _PASSING:
            raise BrainUnavailable(f"the knowledge route answers {status}", was_sent=True)
        if not 200 <= status < 300:
            raise BrainRefused(_ROUTE, f"{status} {body[:200].decode(errors='replace')}")
        try:
            return msgspec.json.decode(body, type=KnowledgeItems).items[:limit]
        except msgspec.MsgspecError as error:
            raise AnswerMalformed(_ROUTE, str(error)) from None

    async def _post(self, asked: dict[str, str | int]) -> tuple[int, bytes]:
        async with self._client.stream("POST", self._url, json=asked) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    raise AnswerMalformed(_ROUTE, f"it has more than {_ANSWER_BYTES} bytes")
            return response.status_code, bytes(body)
