"""The brain's tools: their names, what they take and give, and how a call is refused."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, cast

import structlog
from pydantic import ValidationError

from callsheet.embedded.brain.brain import Brain
from callsheet.embedded.brain.errors import BrainRefused, ModelMissing, Reason
from callsheet.embedded.brain.messages import (
    CachedResult,
    CacheTaskResult,
    Closed,
    EventsStored,
    EventStored,
    GetCachedResult,
    GetTaskHistory,
    Health,
    HealthCheck,
    KnowledgeFound,
    KnowledgeStored,
    QueryKnowledge,
    ResultCached,
    SearchSimilarTasks,
    StoreKnowledge,
    StoreTaskEvent,
    StoreTaskEvents,
    TasksFound,
)

Asked = TypeVar("Asked", bound=Closed)

#: Mistakes that one refusal names; a batch of bad events would name thousands.
_MOST_MISTAKES: Final = 5

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True)
class Tool(Generic[Asked]):
    """A tool by its name; *summary* is for whoever lists the tools."""

    name: str
    summary: str
    asked: type[Asked]
    answer: type[Closed]
    run: Callable[[Asked], Awaitable[Closed]]

    async def call(self, arguments: Mapping[str, Any]) -> Closed:
        """Check the arguments and do it. Raises BrainRefused."""
        try:
            asked = self.asked.model_validate(arguments)
        except ValidationError as error:
            raise BrainRefused(Reason.INVALID_INPUT, _mistakes(error)) from None
        return await self.run(asked)


class Toolbox:
    """All tools of a brain."""

    def __init__(self, brain: Brain) -> None:
        self.tools: Final[Mapping[str, Tool[Any]]] = MappingProxyType(
            {tool.name: tool for tool in _tools(brain)}
        )

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Closed:
        """Call a tool. Raises BrainRefused, and nothing else."""
        tool = self.tools.get(name)
        if tool is None:
            raise BrainRefused(Reason.UNKNOWN_TOOL, f"there is no tool {name[:128]}")
        try:
            return await tool.call(arguments)
        except BrainRefused:
            raise
        except ModelMissing as missing:
            raise BrainRefused(Reason.INTERNAL, str(missing)) from missing
        except Exception as error:
            # What the graph says of itself is for its operator, not for whoever asks.
            _log.exception("tool_failed", tool=name)
            raise BrainRefused(Reason.INTERNAL, f"{name} failed; the log says why") from error


def _tools(brain: Brain) -> tuple[Tool[Any], ...]:
    return (*_writing_tools(brain), *_asking_tools(brain))


def _writing_tools(brain: Brain) -> tuple[Tool[Any], ...]:
    return (
        Tool(
            "store_task_events",
            "Write up to 500 events of tasks in one transaction, each once.",
            StoreTaskEvents,
            EventsStored,
            brain.store_task_events,
        ),
        Tool(
            "store_task_result",
            "Write the event that ended a task, with its result or its failure.",
            StoreTaskEvent,
            EventStored,
            brain.store_task_result,
        ),
        Tool(
            "store_task_context",
            "Write an event of a task that does not end it.",
            StoreTaskEvent,
            EventStored,
            brain.store_task_context,
        ),
        Tool(
            "cache_task_result",
            "Keep a result under a key for a time.",
            CacheTaskResult,
            ResultCached,
            brain.cache_task_result,
        ),
        Tool(
            "store_knowledge",
            "Keep a passage of what a project knows, in place of its source's last one.",
            StoreKnowledge,
            KnowledgeStored,
            brain.store_knowledge,
        ),
    )


def _asking_tools(brain: Brain) -> tuple[Tool[Any], ...]:
    return (
        Tool(
            "get_task_history",
            "List a project's tasks, newest first.",
            GetTaskHistory,
            TasksFound,
            brain.get_task_history,
        ),
        Tool(
            "search_similar_tasks",
            "Find a project's tasks whose text means nearly the same, nearest first.",
            SearchSimilarTasks,
            TasksFound,
            brain.search_similar_tasks,
        ),
        Tool(
            "get_cached_result",
            "Return the result that is kept under a key.",
            GetCachedResult,
            CachedResult,
            brain.get_cached_result,
        ),
        Tool(
            "query_knowledge",
            "Find what a project knows that has to do with a text, nearest first.",
            QueryKnowledge,
            KnowledgeFound,
            brain.query_knowledge,
        ),
        Tool(
            "health_check",
            "Say how much the brain holds.",
            HealthCheck,
            Health,
            brain.health_check,
        ),
    )


def _mistakes(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    sentences = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in details[:_MOST_MISTAKES]
    ]
    if len(details) > _MOST_MISTAKES:
        sentences.append(f"and {len(details) - _MOST_MISTAKES} more")
    return "; ".join(sentences)
