"""Logs: one JSON line a fact, whoever wrote it, and never a secret."""

import io
import json
import logging
import subprocess
import sys
import warnings
from datetime import datetime, timedelta
from typing import cast

import pytest
import structlog
from structlog.typing import FilteringBoundLogger

from callsheet.runtime.logs import attempt_logged, configure_logging
from callsheet.runtime.settings import Settings

API_KEY = "cs_0123abcd_" + "s" * 43
SECRET = "whsec_" + "c2VjcmV0" * 5

log = cast("FilteringBoundLogger", structlog.get_logger())


@pytest.fixture
def lines() -> io.StringIO:
    """What a configured process writes."""
    stream = io.StringIO()
    configure_logging(Settings(log_level="info", log_format="json"), process="x", stream=stream)
    return stream


def failure(error: Exception) -> Exception:
    """The error as it is when it was raised where a secret stood in a variable."""
    password = "hunter2"
    try:
        raise error
    except type(error) as raised:
        assert password
        return raised


def only(lines: io.StringIO) -> dict[str, object]:
    (line,) = lines.getvalue().splitlines()
    return cast("dict[str, object]", json.loads(line))


def test_a_line_has_the_fact_its_keys_the_process_and_the_time_in_utc(lines: io.StringIO) -> None:
    log.info("task_submitted", project="default", count=2, length=timedelta(seconds=1))
    line = only(lines)
    assert list(line)[:4] == ["timestamp", "level", "event", "process"]
    assert (line["event"], line["level"], line["process"]) == ("task_submitted", "info", "x")
    assert (line["project"], line["count"], line["length"]) == ("default", 2, "0:00:01")
    assert datetime.fromisoformat(str(line["timestamp"])).utcoffset() == timedelta(0)


def test_the_attempt_and_its_trace_are_on_every_line_of_it(lines: io.StringIO) -> None:
    with attempt_logged(task_id="t-1", attempt=2, trace_id="abc"):
        log.info("attempt_started")
        logging.getLogger("dramatiq.worker").warning("Slow %s.", "disk")
    log.info("worker_idled")
    inside, library, outside = map(json.loads, lines.getvalue().splitlines())
    for line in (inside, library):
        assert (line["task_id"], line["attempt"], line["trace_id"]) == ("t-1", 2, "abc")
    assert "task_id" not in outside
    assert library["event"] == "library_logged"
    assert (library["logger"], library["message"]) == ("dramatiq.worker", "Slow disk.")


def test_what_is_below_the_level_and_what_chatters_is_not_written(lines: io.StringIO) -> None:
    log.debug("claim_tried")
    logging.getLogger("grpc").debug("polling")
    logging.getLogger("httpx").info("HTTP Request: POST https://example.com?token=1")
    assert lines.getvalue() == ""


def test_an_exception_is_structured_and_shows_no_local_variable(lines: io.StringIO) -> None:
    error = ValueError("no such model")
    error.__cause__ = failure(KeyError("sdxl"))
    log.error("attempt_failed", exc_info=failure(error))
    line = only(lines)
    (outer, cause) = cast("list[dict[str, object]]", line["exception"])
    assert (outer["exc_type"], outer["exc_value"]) == ("ValueError", "no such model")
    assert cause["exc_type"] == "KeyError"
    assert "hunter2" not in lines.getvalue()
    assert "Traceback" not in lines.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_secret_is_never_written(log_format: str) -> None:
    stream = io.StringIO()
    settings = Settings.model_validate({"log_format": log_format})
    configure_logging(settings, process="x", stream=stream)
    headers = {"authorization": "Bearer abc", "x-api-key": "plain-one", "accept": "*/*"}
    log.info("call_refused", headers={"metadata": headers}, api_key="plain-two", text=API_KEY)
    log.info("endpoint_registered", secret="plain-three", note=f"was {SECRET}", raw=SECRET.encode())
    log.info("redis_connected", url="redis://me:plain-four@host:6379/0")
    logging.getLogger("library").error("failed with Bearer plain-five-token and %s", API_KEY)
    log.error("call_failed", exc_info=failure(RuntimeError(f"rejected {API_KEY}")))
    written = stream.getvalue()
    for secret in ("abc", "plain-", API_KEY[12:], SECRET[6:], "me:"):
        assert secret not in written.replace("0123abcd", ""), secret
    assert "redis://***@host:6379/0" in written
    assert "cs_0123abcd_***" in written
    assert "*/*" in written


def test_warnings_are_lines_too(lines: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        configure_logging(Settings(), process="x", stream=lines)
        warnings.warn("this will go", DeprecationWarning, stacklevel=1)
    assert only(lines)["logger"] == "py.warnings"


def test_the_console_format_is_for_people() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="console"), process="x", stream=stream)
    log.warning("lease_lost", holder="w-1")
    assert "lease_lost" in stream.getvalue()
    assert "holder=w-1" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_what_nobody_catches_is_a_line_and_not_a_traceback() -> None:
    program = """
import threading
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.settings import Settings
configure_logging(Settings(), process="x")
thread = threading.Thread(target=lambda: 1 / 0, name="renewer")
thread.start()
thread.join()
raise RuntimeError("the end")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    thread, process = map(json.loads, ended.stderr.splitlines())
    assert ended.returncode == 1
    assert (thread["event"], thread["thread"]) == ("thread_crashed", "renewer")
    assert process["event"] == "process_crashed"
    assert process["exception"][0]["exc_value"] == "the end"
