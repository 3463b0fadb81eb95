"""Tables: drawn on a terminal; elsewhere, for `grep` and a log, a line for each row."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.table import Column, Table

from service.cli.status import Terminal, say
from service.observe.terminals import harmless


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The command's output. Nothing of a cell is left out, however narrow the place. Raises
    Unwritable."""
    cells = [[harmless(cell) for cell in row] for row in rows]
    terminal = Terminal()
    if terminal.is_terminal:
        table = drawn(columns)
        for row in cells:
            table.add_row(*row)
        terminal.print(table)
    else:
        say(*_lines([columns, *cells]))


def drawn(columns: Iterable[str]) -> Table:
    """A table for a terminal, whose cells are folded where they do not fit."""
    return Table(*(Column(name, overflow="fold") for name in columns))


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_padded, row, widths)).rstrip() for row in rows]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))
