"""Files of requests for pairings, as CSV or as JSON a line: read, and written again in part."""

import csv
import json
import os
import re
import stat
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TextIO

from service.domain.errors import SitepairError

COLUMNS = ("a", "b", "operation", "description", "onFailure", "timeoutSeconds", "priority")
_NUMBERS = frozenset({"timeoutSeconds", "priority"})
_NUMBER = re.compile(r"-?[0-9]{1,99}")
_TOLD_FAULTS = 20
_IN_MEMORY = 1024 * 1024
_PIECE = 256 * 1024


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    NDJSON = "ndjson"


class BadFile(SitepairError):
    """The file cannot be sent as it is; a line for each thing that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        more = len(faults) - _TOLD_FAULTS
        told = faults[:_TOLD_FAULTS] + ([f"... and {more} more"] if more > 0 else [])
        super().__init__("\n".join(told))


class Source:
    """What is read, and whether it is as it was when it was opened. A file that is still written to
    may end anywhere, also in the middle of a name; a pipe was read when it is at its end."""

    def __init__(self, text: TextIO) -> None:
        """`text` stays open as long as it is asked about."""
        self._descriptor = text.fileno()
        self._when_opened = self._written()
        self._is_complete = False

    def complete(self) -> None:
        """All of it is on its way. Raises BadFile if it was written to since it was opened. Once it
        was not, what becomes of it does not matter: what is sent again is what was read."""
        if self._written() != self._when_opened and not self._is_complete:
            raise BadFile(
                ["It was written to meanwhile: nothing is accepted. Send it once complete."]
            )
        self._is_complete = True

    def _written(self) -> tuple[int, int] | None:
        found = os.fstat(self._descriptor)
        return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


Spool = tempfile.SpooledTemporaryFile[bytes]


def spool() -> Spool:
    """Where the requests of one file are kept aside, to be closed by who asks for it."""
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)


class BatchFile:
    """The requests in a file, kept aside: standard input cannot be read twice, nor is it said that
    they fit into memory."""

    def __init__(self, text: TextIO, kind: Format, aside: Spool) -> None:
        """Read all of `text`, its newlines left as they are, and lone surrogates where it was
        no UTF-8, into `aside`. Raises BadFile with all that is wrong, the first line's faults
        alone."""
        self._kind = kind
        self._columns: tuple[str, ...] = COLUMNS[:2]
        self._lines = array("L")
        self._spool = aside
        faults: list[str] = []
        lines = _readable(text, faults)
        for number, line in self._csv(lines, faults) if kind is Format.CSV else _ndjson(lines):
            self._lines.append(number)
            self._spool.write(line.encode() + b"\n")
        if faults:
            raise BadFile(faults)

    def __len__(self) -> int:
        """How many requests it has."""
        return len(self._lines)

    def place(self, index: int) -> str:
        """Where in the file the request at `index` is: its first line, counted from 1."""
        return f"line {self._lines[index]}"

    def pieces(self) -> Iterator[bytes]:
        """JSON, a line for each request, in pieces."""
        self._spool.seek(0)
        return iter(lambda: self._spool.read(_PIECE), b"")

    def write(self, out: TextIO, is_wanted: Callable[[int, Any], bool]) -> int:
        """Write what is wanted, by its index and content, in the same format; how many that was."""
        self._spool.seek(0)
        texts = (
            text.decode() for index, text in enumerate(self._spool) if is_wanted(index, _read(text))
        )
        if self._kind is Format.CSV:
            return self._write_csv(out, texts)
        return sum(out.write(text) and 1 for text in texts)

    def _csv(self, lines: Iterator[str], faults: list[str]) -> Iterator[tuple[int, str]]:
        reader = csv.reader(lines, strict=True)
        number = 1  # of the first line of a record, which may have several in quotes
        try:
            names = next(reader, [])
            if faults:
                raise BadFile(faults)
            self._columns = _header(names)
            number = reader.line_num + 1
            for row in reader:
                if row:
                    item = _item(self._columns, row, number, faults)
                    # As it is, for escapes could make a line longer than one may be.
                    yield number, json.dumps(item, ensure_ascii=False)
                number = reader.line_num + 1
        except csv.Error as error:
            faults.append(f"line {number}: {error}")

    def _write_csv(self, out: TextIO, texts: Iterable[str]) -> int:
        writer = csv.writer(out, lineterminator="\n")
        # Before Python 3.13 it leaves a CR without quotes, where every reader ends the line.
        quoter = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(self._columns)
        rows = [self._cells(json.loads(text)) for text in texts]
        for row in rows:
            has_cr = any("\r" in str(cell) for cell in row)
            (quoter if has_cr else writer).writerow(row)
        return len(rows)

    def _cells(self, item: Mapping[str, Any]) -> list[object]:
        a, b = item["appliances"]
        cells = {**item, "a": a, "b": b}
        return [cells.get(column, "") for column in self._columns]


def _ndjson(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n")


def _readable(text: TextIO, faults: list[str]) -> Iterator[str]:
    """Its lines; what was no UTF-8 is added to `faults`, and replaced."""
    for number, line in enumerate(text, start=1):
        try:
            line.encode()
        except UnicodeEncodeError as error:
            faults.append(f"line {number}: character {error.start + 1} is not UTF-8")
            yield line.encode(errors="replace").decode()
        else:
            yield line


def _header(cells: list[str]) -> tuple[str, ...]:
    names = [cell.strip() for cell in cells]
    faults = [f"line 1: no such column: {name!r}" for name in names if name not in COLUMNS]
    faults += [f"line 1: column {name!r} comes twice" for name in {*names} if names.count(name) > 1]
    faults += [f"line 1: there is no column {name!r}" for name in COLUMNS[:2] if name not in names]
    if faults:
        raise BadFile([*faults, f"The first line names the columns: {', '.join(COLUMNS)}."])
    return tuple(names)


def _item(
    columns: tuple[str, ...], row: list[str], number: int, faults: list[str]
) -> dict[str, object]:
    if len(row) != len(columns):
        faults.append(f"line {number}: {len(row)} fields, and the first line has {len(columns)}")
    cells = {name: text.strip() for name, text in zip(columns, row, strict=False)}
    item: dict[str, object] = {"appliances": [cells.get("a", ""), cells.get("b", "")]}
    for name in COLUMNS[2:]:
        if text := cells.get(name):
            item[name] = _value(name, text, number, faults)
    return item


def _value(name: str, text: str, number: int, faults: list[str]) -> object:
    if name not in _NUMBERS:
        return text
    if _NUMBER.fullmatch(text):
        return int(text)
    faults.append(f"line {number}: {name} is not a whole number: {text!r}")
    return 0


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def couple_of(item: Any) -> frozenset[str]:
    """The two appliances that `item`, whatever it is, is about."""
    names = item.get("appliances") if isinstance(item, Mapping) else None
    is_couple = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return frozenset(names) if is_couple and names else frozenset()
