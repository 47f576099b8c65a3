"""Logs: one line of JSON for each fact, to stderr, without secrets.

An event's name is a fact in the past tense (`lease_lost`); everything else stands beside it under
keys of its own. What libraries write through `logging` becomes `library_logged`.
"""

import logging
import re
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, TextIO, cast

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from callsheet.runtime.settings import Settings

#: Libraries whose own chatter, at INFO, is a line for every request.
_CHATTY: Final = ("httpx", "httpcore", "hpack", "urllib3", "uvicorn.access", "websockets.server")
_MOST_FRAMES: Final = 20
_DEEPEST: Final = 6
_FIRST_KEYS: Final = ("timestamp", "level", "event", "process")

_SECRET_KEY: Final = re.compile(
    r"(^|[_-])(authorization|api[_-]?key|key_text|password|secret|token|cookie|signature)s?$",
    re.IGNORECASE,
)
#: API keys, webhook secrets, bearer tokens, and user and password in URLs.
_SECRET_TEXT: Final = re.compile(
    r"(?P<start>\bcs_[0-9a-f]{8}_|\bwhsec_|\b[Bb]earer\s+)[A-Za-z0-9+/_=.-]{8,}"
    r"|(?<=://)[^/@\s\"']+(?=@)"
)
_MASK: Final = "***"


def configure_logging(settings: Settings, *, process: str, stream: TextIO | None = None) -> None:
    """Send this process's logs, structlog's and logging's alike, to *stream* (stderr) as lines.

    Every line carries *process*. Call it once, before anything is logged.
    """
    lines = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    stamps: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
    ]
    ending = _ending(settings, colors=lines.isatty())
    structlog.configure(
        processors=[*stamps, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(lines),
        # Loggers are made at import, before this call; a cached one would keep the old settings.
        cache_logger_on_first_use=False,
    )
    _route_logging(lines, level=level, stamps=stamps, ending=ending)
    _log_what_nobody_catches()


@contextmanager
def attempt_logged(
    *, task_id: str, attempt: int, trace_id: str = ""
) -> Generator[None, None, None]:
    """Put the attempt and its trace on every log line written inside, in this context."""
    with bound_contextvars(task_id=task_id, attempt=attempt, trace_id=trace_id):
        yield


def _ending(settings: Settings, *, colors: bool) -> list[Processor]:
    if settings.log_format == "console":
        # plain_traceback, because the prettier ones print local variables, and those hold secrets.
        console = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback
        )
        return [_mask_by_key, console, _mask_by_form]
    failure = ExceptionDictTransformer(show_locals=False, max_frames=_MOST_FRAMES)
    return [
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(failure),
        _mask_by_key,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        _mask_by_form,
    ]


def _named(process: str) -> Processor:
    def add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    return add_process


def _route_logging(
    lines: TextIO, *, level: int, stamps: list[Processor], ending: list[Processor]
) -> None:
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_as_fact, *stamps],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dramatiq"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.captureWarnings(True)


def _as_fact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record = cast("logging.LogRecord", event["_record"])
    event["message"] = event["event"]
    event["event"] = "library_logged"
    event["logger"] = record.name
    return event


def _log_what_nobody_catches() -> None:
    log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())

    def of_process(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            log.warning("process_interrupted")
        else:
            log.critical("process_crashed", exc_info=(kind, error, trace))

    def of_thread(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
            name = failure.thread.name if failure.thread else ""
            log.critical("thread_crashed", thread=name, exc_info=failure.exc_value)

    sys.excepthook = of_process
    threading.excepthook = of_thread


def _mask_by_key(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in _FIRST_KEYS if key in event}
    return _masked({**first, **event}, depth=0)


def _masked(mapping: Mapping[str, Any], *, depth: int) -> dict[str, Any]:
    return {
        key: _MASK if _is_secret(key, value) else _masked_within(value, depth)
        for key, value in mapping.items()
    }


def _is_secret(key: str, value: object) -> bool:
    # A number under such a key counts something, such as the tokens of a text.
    return isinstance(value, str | bytes) and _SECRET_KEY.search(str(key)) is not None


def _masked_within(value: object, depth: int) -> object:
    if not isinstance(value, dict):
        return value
    if depth == _DEEPEST:
        return "…"
    return _masked(cast("dict[str, Any]", value), depth=depth + 1)


def _mask_by_form(_: WrappedLogger, __: str, line: EventDict | str) -> str:
    # The renderer before this one has made the event a line, traceback and all.
    return _SECRET_TEXT.sub(lambda found: (found["start"] or "") + _MASK, str(line))
