"""Where log lines go: JSON for machines, colours on a terminal, never a secret."""

import logging
import re
import sys
from collections.abc import MutableMapping
from dataclasses import fields
from functools import cache
from typing import IO

import structlog

from service.observe.context import current
from service.observe.events import LogEvent

_SECRET = re.compile(r"pass|secret|token|credential|authorization|x-vcav-auth", re.IGNORECASE)
# Local variables, which are shown by default, would put passwords into the log.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
_LOGGER = structlog.stdlib.get_logger("sitepair")


def configure(*, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send our lines and every library's to `stream` (stderr), one JSON object a line unless it
    is a terminal."""
    out = stream if stream is not None else sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        _redact,
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if out.isatty()
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
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


def emit(event: LogEvent, *, error: BaseException | None = None) -> None:
    """Log `event`, with the traceback of `error` if given."""
    level = logging.getLevelNamesMapping()[event.level.upper()]
    if not logging.getLogger("sitepair").isEnabledFor(level):
        return
    values = ((field.name, getattr(event, field.name)) for field in fields(event))
    present = {key: value for key, value in values if value not in (None, ())}
    _LOGGER.log(
        level,
        event_name(type(event)),
        exc_info=error,
        **present,
    )


def event_name(kind: type[LogEvent]) -> str:
    """The `event` field of the lines that `kind` makes."""
    return _snake_case(kind.__name__)


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
        if _SECRET.search(key):
            line[key] = "[redacted]"
    return line
