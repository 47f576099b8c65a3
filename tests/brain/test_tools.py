"""Names of tools: ours, unless the settings say otherwise."""

import pytest

from callsheet.brain.tools import Tool, tool_names


def test_a_tool_has_our_name_unless_it_is_said_otherwise() -> None:
    names = tool_names(["store_task_result=add-result", " health_check = status "])
    assert names[Tool.STORE_TASK_RESULT] == "add-result"
    assert names[Tool.HEALTH_CHECK] == "status"
    assert names[Tool.STORE_TASK_EVENTS] == "store_task_events"
    assert len(names) == len(Tool)


def test_an_empty_name_says_that_there_is_no_such_tool() -> None:
    assert Tool.STORE_KNOWLEDGE not in tool_names(["store_knowledge="])


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        ("store_task_result", "is none"),
        ("store_everything=add", "must name our tools"),
        ("store_task_result=a b", "at most 128"),
        ("store_task_result=" + "a" * 129, "at most 128"),
    ],
)
def test_what_is_no_name_is_refused(pair: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tool_names([pair])


def test_a_tool_is_named_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        tool_names(["health_check=a", "health_check=b"])
