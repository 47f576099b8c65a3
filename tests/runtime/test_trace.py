"""W3C trace context: the vectors of the standard's own test suite, and what a child keeps."""

import pytest

from callsheet.runtime.trace import (
    TraceContext,
    continue_trace,
    new_trace,
    parse_traceparent,
)

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
EXAMPLE = f"00-{TRACE_ID}-{SPAN_ID}-01"


def test_the_standard_s_example_is_read_and_written_back() -> None:
    context = parse_traceparent(EXAMPLE)
    assert context == TraceContext(TRACE_ID, SPAN_ID, sampled=True)
    assert str(context) == EXAMPLE


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-ff", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-02", False),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be-like", True),
        (f" \t{EXAMPLE}\t ", True),
    ],
)
def test_what_the_standard_accepts_is_read(text: str, sampled: bool) -> None:  # noqa: FBT001  # a parameter of the table
    assert parse_traceparent(text) == TraceContext(TRACE_ID, SPAN_ID, sampled)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID}-{SPAN_ID}-011",
        f"{EXAMPLE}-what",
        f"{EXAMPLE}-",
        f"cc-{TRACE_ID}-{SPAN_ID}-01.what-the-future-will-not-be-like",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"0-{TRACE_ID}-{SPAN_ID}-01",
        f".0-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}.-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID[:-1]}X-01",
        f"00-{TRACE_ID}-{SPAN_ID}-.0",
        "00-" + "\N{ARABIC-INDIC DIGIT ONE}" * 32 + f"-{SPAN_ID}-01",
        EXAMPLE.replace("-", "_"),
        f"{EXAMPLE},{EXAMPLE}",
        f"cc-{TRACE_ID}-{SPAN_ID}-01-" + "x" * 1000,
    ],
)
def test_what_the_standard_refuses_starts_a_new_trace(text: str | None) -> None:
    assert parse_traceparent(text) is None
    root = continue_trace(text)
    assert root.trace_id != TRACE_ID
    assert parse_traceparent(str(root)) == root


def test_a_child_keeps_the_trace_and_the_sampling_and_has_its_own_span() -> None:
    child = continue_trace(EXAMPLE)
    assert (child.trace_id, child.sampled) == (TRACE_ID, True)
    assert child.span_id != SPAN_ID
    assert child.child().trace_id == TRACE_ID
    assert parse_traceparent(str(child)) == child


def test_roots_differ_and_are_sampled_on_request() -> None:
    assert new_trace().trace_id != new_trace().trace_id
    assert not new_trace().sampled
    assert new_trace(sampled=True).sampled
