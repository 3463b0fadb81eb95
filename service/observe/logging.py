"""Where log lines go: JSON for machines, colours on a terminal, never a secret."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from io import StringIO
from typing import IO, TextIO

import msgspec
import structlog
from structlog.processors import JSONRenderer, TimeStamper, add_log_level

from service.observe.context import current
from service.observe.events import Level, LogEvent
from service.observe.terminals import harmless

_SECRET = re.compile(r"pass|secret|token|credential|authorization|x.vcav.auth", re.IGNORECASE)
# Local variables, which are shown by default, would put passwords into the log.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(*, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Send our lines and every library's to `stream` (stderr), one JSON object a line unless it
    is a terminal."""
    out = stream if stream is not None else sys.stderr
    is_terminal = out.isatty()
    _OUTPUT.write = _console(out) if is_terminal else _lines_of_json(out)
    _OUTPUT.threshold = logging.getLevelNamesMapping()[level]
    render = [_coloured] if is_terminal else [_TRACEBACKS, JSONRenderer(serializer=_to_json)]
    target = logging.StreamHandler(out)
    target.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[add_log_level, TimeStamper(fmt="iso", utc=True), _add_context],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(level)
    # It tells its dialect each time the schema is looked at, which is at every readiness probe.
    logging.getLogger("alembic").setLevel(max(logging.WARNING, root.level))


Line = MutableMapping[str, object]


def _traceback(out: TextIO, error: structlog.typing.ExcInfo) -> None:
    told = StringIO()
    structlog.dev.plain_traceback(told, error)
    out.write("\n".join(map(harmless, told.getvalue().split("\n"))))


_CONSOLE = structlog.dev.ConsoleRenderer(exception_formatter=_traceback)


def _coloured(logger: object, method: str, line: Line) -> str:
    """For a terminal, to which the words of others do nothing; what is no text is shown escaped."""
    for name, value in line.items():
        if isinstance(value, str):
            line[name] = harmless(value)
    return _CONSOLE(logger, method, line)


def _console(out: IO[str]) -> Callable[[Line], None]:
    def write(line: Line) -> None:
        out.write(f"{_coloured(None, str(line['level']), line)}\n")
        out.flush()

    return write


def _lines_of_json(out: IO[str]) -> Callable[[Line], None]:
    def write(line: Line) -> None:
        if "exc_info" in line:
            line = _TRACEBACKS(None, "error", line)
        out.write(f"{_to_json(line)}\n")
        out.flush()

    return write


@dataclass(slots=True)
class _Output:
    """Where our lines go. They do not pass through any library's chain, which costs more than all
    the rest: there are twenty of them for each pairing."""

    write: Callable[[Line], None]
    threshold: int = logging.INFO
    unwritten: int = 0


def _to_stderr(line: Line) -> None:
    _console(sys.stderr)(line)


_OUTPUT = _Output(_to_stderr)
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
    if _LEVELS[event.level] < _OUTPUT.threshold:
        return
    kind = type(event)
    line: Line = {"event": event_name(kind), "level": event.level, "timestamp": _now()}
    for name, is_secret in _told_of(kind):
        value = getattr(event, name)
        if value is not None and value != ():
            line[name] = "[redacted]" if is_secret else value
    _add_context(None, "", line)
    if error is not None:
        line["exc_info"] = error
    try:
        _OUTPUT.write(line)
    except OSError:
        # A full disk, a reader that is gone: what is told of goes on.
        _OUTPUT.unwritten += 1


def unwritten() -> int:
    """How many lines there was no place for, in this process."""
    return _OUTPUT.unwritten


_LEVELS: Mapping[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@cache
def event_name(kind: type[LogEvent]) -> str:
    """The `event` field of the lines that `kind` makes."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


@cache
def _told_of(kind: type[LogEvent]) -> tuple[tuple[str, bool], ...]:
    """Its fields, and whether their values are nobody's business."""
    return tuple([(name, _SECRET.search(name) is not None) for name in kind.__struct_fields__])


def _add_context(
    _logger: object, _method: str, line: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    work = current()
    if work.operation_id is not None:
        line.setdefault("operationID", work.operation_id)
    if work.pairing is not None:
        line.setdefault("pairing", work.pairing)
    if work.task is not None:
        line.setdefault("task", work.task)
    return line


def _to_json(line: object, **_: object) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=repr).decode()
    except UnicodeEncodeError:  # A path, say, whose bytes are no UTF-8.
        return json.dumps(line, ensure_ascii=False, default=repr).encode(errors="replace").decode()
