"""The brain: typed methods over its tools, with what is done where it lacks one."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

import msgspec

from callsheet.brain.connection import BrainConnection
from callsheet.brain.errors import AnswerMalformed
from callsheet.brain.knowledge import KnowledgeRoute
from callsheet.brain.records import (
    FINAL_EVENTS,
    Cached,
    CachedResult,
    Health,
    Json,
    KnowledgeItem,
    KnowledgeItems,
    Stored,
    TaskEventWrite,
    TaskMemories,
    TaskMemory,
    Written,
    WrittenOne,
)
from callsheet.brain.tools import Tool, tool_names
from callsheet.brain.transport import Dialling

#: The most facts that one call may write.
MOST_EVENTS: Final = 500
MOST_TASKS: Final = 100
MOST_SIMILAR: Final = 50
MOST_KNOWLEDGE: Final = 50

#: Tasks whose facts are written at the same time, to a brain that takes them one by one.
_TASKS_AT_A_TIME: Final = 16

Answer = TypeVar("Answer")


class Brain:
    """A brain; entered, it is connected and stays so. To be made and used in one event loop.

    Every method may raise BrainError; see callsheet.brain.errors. *names* are the brain's names of
    the tools it has, *time_limit* is what a call may take unless it says otherwise, *jitter* a
    chance between 0 and 1. Of *knowledge*, the REST route, only what has no tool is asked.
    """

    def __init__(
        self,
        dialling: Dialling,
        *,
        jitter: Callable[[], float],
        names: Mapping[Tool, str] = MappingProxyType(tool_names()),
        time_limit: timedelta = timedelta(seconds=10),
        in_flight: int = 64,
        knowledge: KnowledgeRoute | None = None,
    ) -> None:
        self.connection = BrainConnection(
            dialling, names=names, time_limit=time_limit, in_flight=in_flight, jitter=jitter
        )
        self._knowledge = knowledge

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.connection.__aexit__(exc_type, exc_val, exc_tb)
        if self._knowledge is not None:
            await self._knowledge.aclose()

    def offers(self, tool: Tool) -> bool:
        """Whether the brain has the tool; not, while it is away."""
        return self.connection.offers(tool)

    async def store_task_events(
        self, events: Sequence[TaskEventWrite], *, time_limit: timedelta | None = None
    ) -> Written:
        """Write 1 to 500 facts, those of each task in order; what was written before is repeated.

        A brain without the tool gets them one by one, and those whose tool it lacks too not at all:
        they are counted neither as written nor as repeated.
        """
        if not 1 <= len(events) <= MOST_EVENTS:
            raise ValueError(f"1 to {MOST_EVENTS} facts are written at a time, not {len(events)}")
        if self.offers(Tool.STORE_TASK_EVENTS) or not self._takes_single_facts():
            answer = await self.connection.call(
                Tool.STORE_TASK_EVENTS, {"events": events}, time_limit=time_limit
            )
            return _checked(Tool.STORE_TASK_EVENTS, answer, Written)
        return await self._store_one_by_one(events, time_limit=time_limit)

    async def store_task_result(self, event: TaskEventWrite) -> bool:
        """Write a final fact; return whether it was new."""
        answer = await self.connection.call(Tool.STORE_TASK_RESULT, {"event": event})
        return _checked(Tool.STORE_TASK_RESULT, answer, WrittenOne).written

    async def store_task_context(self, event: TaskEventWrite) -> bool:
        """Write a fact that is not final; return whether it was new."""
        answer = await self.connection.call(Tool.STORE_TASK_CONTEXT, {"event": event})
        return _checked(Tool.STORE_TASK_CONTEXT, answer, WrittenOne).written

    async def get_task_history(
        self,
        project: str,
        *,
        task_type: str = "",
        limit: int = 20,
        time_limit: timedelta | None = None,
    ) -> tuple[TaskMemory, ...]:
        """Return the project's tasks, newest first; at most *limit*, 1 to 100."""
        asked = {"project": project, "limit": _within(limit, MOST_TASKS)}
        asked |= _given(task_type=task_type)
        tool = Tool.GET_TASK_HISTORY
        answer = await self.connection.call(tool, asked, time_limit=time_limit)
        return _of_project(tool, answer, project)

    async def search_similar_tasks(
        self,
        project: str,
        text: str,
        *,
        task_type: str = "",
        status: str = "",
        limit: int = 10,
        time_limit: timedelta | None = None,
    ) -> tuple[TaskMemory, ...]:
        """Return the project's tasks that are nearest in meaning to the text, best first.

        At most *limit*, 1 to 50; of one type or status, where given.
        """
        asked = {"project": project, "text": text, "limit": _within(limit, MOST_SIMILAR)}
        asked |= _given(task_type=task_type, status=status)
        tool = Tool.SEARCH_SIMILAR_TASKS
        answer = await self.connection.call(tool, asked, time_limit=time_limit)
        return _of_project(tool, answer, project)

    async def cache_task_result(
        self, project: str, *, key: str, task_id: str, result: Json, ttl: timedelta
    ) -> Cached:
        """Keep a result under the key for *ttl*, at least a second; return until when."""
        seconds = ttl // timedelta(seconds=1)
        if seconds < 1:
            raise ValueError("a result is kept for a second at least")
        asked = {
            "project": project,
            "key": key,
            "task_id": task_id,
            "result": result,
            "ttl_seconds": seconds,
        }
        answer = await self.connection.call(Tool.CACHE_TASK_RESULT, asked)
        return _checked(Tool.CACHE_TASK_RESULT, answer, Cached)

    async def get_cached_result(
        self, project: str, *, key: str, time_limit: timedelta | None = None
    ) -> CachedResult:
        """Return the result that the project keeps under the key, if there is one."""
        tool = Tool.GET_CACHED_RESULT
        asked = {"project": project, "key": key}
        answer = await self.connection.call(tool, asked, time_limit=time_limit)
        return _checked(tool, answer, CachedResult)

    async def query_knowledge(
        self,
        project: str,
        text: str,
        *,
        context_type: str = "",
        limit: int = 8,
        time_limit: timedelta | None = None,
    ) -> tuple[KnowledgeItem, ...]:
        """Return what the project knows that is nearest in meaning; at most *limit*, 1 to 50.

        *context_type* says what kind is wanted, as character_context; the REST route alone knows
        kinds.
        """
        limit = _within(limit, MOST_KNOWLEDGE)
        tool = Tool.QUERY_KNOWLEDGE
        if self._knowledge is not None and not self.offers(tool):
            return await self._knowledge.query(
                project, text, context_type=context_type, limit=limit, time_limit=time_limit
            )
        asked = {"project": project, "text": text, "limit": limit}
        answer = await self.connection.call(tool, asked, time_limit=time_limit)
        return _checked(tool, answer, KnowledgeItems).items[:limit]

    async def store_knowledge(self, project: str, *, source: str, text: str) -> bool:
        """Add to what the project knows; return whether it was new."""
        asked = {"project": project, "source": source, "text": text}
        answer = await self.connection.call(Tool.STORE_KNOWLEDGE, asked)
        return _checked(Tool.STORE_KNOWLEDGE, answer, Stored).stored

    async def health_check(self, *, time_limit: timedelta | None = None) -> Health:
        """Return how the brain says it is; one without the tool is ok if it answers at all."""
        tool = Tool.HEALTH_CHECK
        if self.connection.is_connected and not self.offers(tool):
            name = await self.connection.ping(time_limit=time_limit)
            return Health(status="ok", version=name)
        answer = await self.connection.call(tool, {}, time_limit=time_limit)
        return _checked(tool, answer, Health)

    def _takes_single_facts(self) -> bool:
        return self.offers(Tool.STORE_TASK_RESULT) or self.offers(Tool.STORE_TASK_CONTEXT)

    async def _store_one_by_one(
        self, events: Sequence[TaskEventWrite], *, time_limit: timedelta | None
    ) -> Written:
        """Write the facts of each task in order, and several tasks' at a time."""
        of_task: dict[str, list[TaskEventWrite]] = {}
        for event in events:
            of_task.setdefault(event["task_id"], []).append(event)
        room = asyncio.Semaphore(_TASKS_AT_A_TIME)

        async def store(facts: list[TaskEventWrite]) -> list[bool]:
            async with room:
                tools = [(fact, _tool_for(fact)) for fact in facts]
                return [
                    await self._store_one(tool, fact, time_limit=time_limit)
                    for fact, tool in tools
                    if self.offers(tool)
                ]

        answers = await asyncio.gather(*map(store, of_task.values()), return_exceptions=True)
        new: list[bool] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer  # the first; what the other tasks wrote is repeated the next time
            new += answer
        return Written(written=sum(new), repeated=len(new) - sum(new))

    async def _store_one(
        self, tool: Tool, event: TaskEventWrite, *, time_limit: timedelta | None
    ) -> bool:
        answer = await self.connection.call(tool, {"event": event}, time_limit=time_limit)
        return _checked(tool, answer, WrittenOne).written


def _tool_for(event: TaskEventWrite) -> Tool:
    is_final = event["event"] in FINAL_EVENTS
    return Tool.STORE_TASK_RESULT if is_final else Tool.STORE_TASK_CONTEXT


def _checked(tool: Tool, answer: object, kind: type[Answer]) -> Answer:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise AnswerMalformed(tool.value, str(error)) from None


def _of_project(tool: Tool, answer: object, project: str) -> tuple[TaskMemory, ...]:
    tasks = _checked(tool, answer, TaskMemories).tasks
    if any(task.project not in {"", project} for task in tasks):
        raise AnswerMalformed(tool.value, f"it tells of tasks of other projects than {project}")
    return tasks


def _given(**arguments: str) -> dict[str, str]:
    return {name: value for name, value in arguments.items() if value}


def _within(limit: int, most: int) -> int:
    if not 1 <= limit <= most:
        raise ValueError(f"the limit must be 1 to {most}, not {limit}")
    return limit
