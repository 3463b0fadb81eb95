"""What is logged is a contract: the document and the code name the same lines."""

import errno
import io
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import cast

import msgspec
import pytest
from msgspec.structs import replace

from service.domain.ids import OperationId
from service.observe import events
from service.observe.context import (
    WorkContext,
    current,
    new_operation_id,
    operation_id,
    working_as,
    working_on,
)
from service.observe.events import LogEvent, PairingCrashed, StoreTroubled
from service.observe.logging import configure, emit, event_name, unwritten
from service.observe.metrics import MEASURES, Metrics
from tests.support.logs import captured_logs

DOCUMENT = Path(__file__).parents[2] / "docs" / "observability.md"


def kinds() -> list[type[LogEvent]]:
    return [
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, LogEvent) and kind is not LogEvent
    ]


Row = tuple[str, str, tuple[str, ...]]


def tabled() -> set[Row]:
    """Name, level or kind, and fields or labels, of each row of the document's tables."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE)
    return {(name, kind, tuple(re.findall(r"`(\w+)`", fields))) for name, kind, fields in rows}


def test_the_document_tables_every_line_with_its_level_and_fields() -> None:
    coded = {(event_name(kind), kind.level, kind.__struct_fields__) for kind in kinds()}
    assert {row for row in tabled() if not row[0].startswith("sitepair_")} == coded


def test_the_document_tables_every_metric_with_its_kind_and_labels() -> None:
    coded: set[Row] = {(each.name, each.kind, each.labels) for each in MEASURES}
    assert {row for row in tabled() if row[0].startswith("sitepair_")} == coded


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_what_is_worked_on() -> None:
    work = WorkContext(OperationId("op"), "p")
    with captured_logs() as stream, working_as(work):
        with working_as(replace(work, task="t")):
            emit(StoreTroubled(doing="testing", error="none"))
        emit(StoreTroubled(doing="testing", error="none"))
    inner, outer = lines_of(stream)
    assert {key: inner[key] for key in ("operationID", "pairing", "task")} == {
        "operationID": "op",
        "pairing": "p",
        "task": "t",
    }
    assert "task" not in outer
    assert outer["event"] == "store_troubled"
    assert outer["level"] == "warning"


def test_a_line_of_ours_is_dated_as_one_of_a_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_123_999)
    with captured_logs() as stream:
        emit(StoreTroubled(doing="testing", error="none"))
        logging.getLogger("library").warning("trouble")
    ours, theirs = [str(line["timestamp"]) for line in lines_of(stream)]
    assert ours == "2001-09-09T01:46:40.000123Z"
    assert re.sub("[0-9]", "0", ours) == re.sub("[0-9]", "0", theirs)


def test_what_is_worked_on_ends_with_the_block() -> None:
    before = current()
    with working_on(operation_id=OperationId("op")):
        assert operation_id() == "op"
    assert current() is before
    assert operation_id() != new_operation_id()


def test_a_crash_is_logged_without_the_values_of_variables() -> None:
    def crash(password: str) -> None:
        raise LookupError(len(password))

    with captured_logs() as stream:
        try:
            crash("hunter2")
        except LookupError as error:
            emit(PairingCrashed(), error=error)
    assert "LookupError" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_text_that_is_no_unicode_is_logged_as_far_as_it_is_and_stops_nobody() -> None:
    """So Python spells the bytes of a path that are no UTF-8."""

    def crash(words: str) -> None:
        raise LookupError(words)

    path = os.fsdecode(b"/data\xff")
    with captured_logs() as stream:
        emit(StoreTroubled(doing="testing", error=path))
        try:
            crash(path)
        except LookupError as error:
            emit(PairingCrashed(), error=error)
            logging.getLogger("library").warning("of %s", path)
    told, *_ = lines_of(stream)
    assert told["error"] == "/data?"
    assert [line["event"] for line in lines_of(stream)] == [
        "store_troubled",
        "pairing_crashed",
        "of /data?",
    ]


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_what_others_wrote_moves_no_cursor() -> None:
    def crash(words: str) -> None:
        raise LookupError(words)

    nasty, escaped = "\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"
    with captured_logs():  # Puts back what is set here.
        screen = Screen()
        configure(stream=screen)
        emit(StoreTroubled(doing="testing", error=nasty))
        try:
            crash(f"{nasty}\nsecond")
        except LookupError as error:
            emit(PairingCrashed(), error=error)
            logging.getLogger("library").exception("of %s", nasty)
    shown = screen.getvalue()
    assert shown.count(escaped) == 4
    assert nasty not in shown
    assert f"LookupError: {escaped}\nsecond" in shown


class Full(io.StringIO):
    """A file on a disk without room, until there is some."""

    has_room = False

    def flush(self) -> None:
        if not self.has_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_without_room_stops_nobody_and_is_counted() -> None:
    with captured_logs():  # Puts back what is set here.
        full, before = Full(), unwritten()
        configure(stream=full)
        emit(StoreTroubled(doing="testing", error="none"))
        emit(StoreTroubled(doing="testing", error="none"))
        full.has_room = True
        emit(StoreTroubled(doing="testing", error="some"))
    assert unwritten() - before == 2
    assert f"sitepair_log_lines_unwritten_total {unwritten():.1f}" in Metrics().text().decode()
    assert lines_of(full)[-1]["error"] == "some"


@pytest.mark.parametrize(
    "name", ["password", "localPassword", "x_vcav_auth", "Authorization", "admin_token", "secret"]
)
def test_a_field_that_is_named_like_a_secret_is_redacted(name: str) -> None:
    kind = msgspec.defstruct("Careless", [(name, str)], bases=(LogEvent,), frozen=True)
    with captured_logs() as stream:
        emit(cast("LogEvent", kind("hunter2")))
    assert "hunter2" not in stream.getvalue()
    assert "[redacted]" in stream.getvalue()
