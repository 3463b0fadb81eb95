"""Where log lines go: JSON for machines, colours on a terminal, never a secret."""

import logging
import re
import sys
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, lru_cache
from typing import IO, TextIO, cast

import msgspec
import structlog

from service.observe.context import current
from service.observe.events import LogEvent

_SECRET = re.compile(r"pass|secret|token|credential|authorization|x-vcav-auth", re.IGNORECASE)
# Local variables, which are shown by default, would put passwords into the log.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(*, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send our lines and every library's to `stream` (stderr), one JSON object a line unless it
    is a terminal."""
    out = stream if stream is not None else sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        _redact,
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if out.isatty()
        else [_TRACEBACKS, structlog.processors.JSONRenderer(serializer=_to_json)]
    )
    # Our lines do not pass through the standard library, which costs more than all the rest:
    # there are twenty of them for each pairing.
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", out)),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    target = logging.StreamHandler(out)
    target.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(level)
    # It tells its dialect each time the schema is looked at, which is at every readiness probe.
    logging.getLogger("alembic").setLevel(max(logging.WARNING, root.level))


_LISTENERS: list[Callable[[LogEvent], None]] = []


@contextmanager
def listening(listener: Callable[[LogEvent], None]) -> Iterator[None]:
    """Within, `listener` is told of every event, however loud; it must not raise."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def emit(event: LogEvent, *, error: BaseException | None = None) -> None:
    """Log `event`, with the traceback of `error` if given."""
    for listener in _LISTENERS:
        listener(event)
    values = ((name, getattr(event, name)) for name in _field_names(cast("Hashable", type(event))))
    present = {name: value for name, value in values if value is not None and value != ()}
    if error is not None:
        present["exc_info"] = error
    getattr(structlog.get_logger(), event.level)(event_name(type(event)), **present)


def event_name(kind: type[LogEvent]) -> str:
    """The `event` field of the lines that `kind` makes."""
    return _snake_case(kind.__name__)


@cache
def _field_names(kind: Hashable) -> tuple[str, ...]:
    return tuple([field.name for field in fields(cast("type[LogEvent]", kind))])


@cache
def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _add_context(
    _logger: object, _method: str, line: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    work = current()
    for key, value in (
        ("operationID", work.operation_id),
        ("pairing", work.pairing),
        ("appliance", work.appliance),
        ("task", work.task),
    ):
        if value is not None:
            line.setdefault(key, value)
    return line


def _redact(
    _logger: object, _method: str, line: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    for key in line:
        if _is_secret(key):
            line[key] = "[redacted]"
    return line


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _to_json(line: object, **_: object) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()
