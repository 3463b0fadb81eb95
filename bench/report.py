"""Rows on paper: a table for people, JSON for programs, progress on stderr."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence

from bench.figures import Row
from bench.options import Options, parsed

Measure = Callable[[Options], Awaitable[list[Row]]]

_HEAD = ("figure", "against", "ours", "other", "judged", "median", "worst", "must", "aim", "meets")
_LEFT = 2
_SIGNIFICANT = 3


def command(prog: str, description: str | None, measure: Measure, defaults: Options) -> None:
    """The command line of one part: measure, print."""
    options, as_json = parsed(prog, description, defaults)
    tell(f"{prog}: seed {options.seed}, {options.rounds} rounds")

    async def measured() -> list[Row]:
        return await measure(options)

    print(as_text(asyncio.run(measured()), as_json=as_json))


def as_text(rows: Sequence[Row], *, as_json: bool) -> str:
    """All rows, with what is asked of each beside it."""
    if as_json:
        return json.dumps([row.as_json() for row in rows], indent=2)
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned(line, widths) for line in lines)


def tell(line: str) -> None:
    """Say how far it is."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _cells(row: Row) -> tuple[str, ...]:
    target = row.target
    numbers = [_number(each) for each in (row.ours, row.other)]
    judged = [_number(each) for each in (row.median, row.worst, target.must, target.aim)]
    return (row.figure, row.against, *numbers, row.judged, *judged, row.grade or "")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if float(value).is_integer() or abs(value) >= 10**_SIGNIFICANT:
        return f"{value:,.0f}"
    return f"{value:.{_SIGNIFICANT}g}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if index < _LEFT else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
