"""The tools that are asked of a brain, and what another team's brain calls them."""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


class Tool(Enum):
    """What a brain can do; the values are our names for it."""

    STORE_TASK_EVENTS = "store_task_events"
    STORE_TASK_RESULT = "store_task_result"
    STORE_TASK_CONTEXT = "store_task_context"
    GET_TASK_HISTORY = "get_task_history"
    SEARCH_SIMILAR_TASKS = "search_similar_tasks"
    CACHE_TASK_RESULT = "cache_task_result"
    GET_CACHED_RESULT = "get_cached_result"
    QUERY_KNOWLEDGE = "query_knowledge"
    STORE_KNOWLEDGE = "store_knowledge"
    HEALTH_CHECK = "health_check"


def tool_names(renamed: Iterable[str] = ()) -> Mapping[Tool, str]:
    """Return the brain's name of each tool it has, given "ours=theirs" where they differ.

    An empty name says that the brain has no such tool, whatever it lists.

    Raises:
        ValueError: a pair is none, or names none of our tools, or one twice, or no proper name.
    """
    names = {tool: tool.value for tool in Tool}
    seen = set[str]()
    for pair in renamed:
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"must be pairs ours=theirs, separated by commas; {pair!r} is none")
        if ours not in Tool._value2member_map_:
            raise ValueError(f"must name our tools, {', '.join(t.value for t in Tool)}: not {ours}")
        if ours in seen:
            raise ValueError(f"must name each tool once, and names {ours} twice")
        if theirs and not _TOOL_NAME.fullmatch(theirs):
            raise ValueError("must give names of at most 128 letters, digits and _.:/-")
        seen.add(ours)
        names[Tool(ours)] = theirs
    return MappingProxyType({tool: name for tool, name in names.items() if name})
