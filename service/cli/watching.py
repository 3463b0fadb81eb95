"""Shows pairings as they go on: live on a terminal, a line for each change elsewhere."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

Pairing = Mapping[str, Any]

_COLOURS = {
    "SUCCEEDED": "green",
    "ALREADY_PAIRED": "green",
    "FAILED": "red",
    "CANCELED": "yellow",
    "RUNNING": "cyan",
    "ACCEPTED": "cyan",
    "REQUESTED": "blue",
}


class Watch(Protocol):
    """Somewhere to show pairings."""

    def show(self, pairings: Iterable[Pairing]) -> None:
        """These are the pairings now."""


@asynccontextmanager
async def watching(console: Console) -> AsyncIterator[Watch]:
    """A place to show pairings on `console`."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield _Screen(live)


class _Screen:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, pairings: Iterable[Pairing]) -> None:
        table = Table("pairing", "state", "", "side", "state", "task")
        for pairing in pairings:
            for number, side in enumerate(pairing["sides"]):
                head = _head(pairing) if number == 0 else ("", "", "")
                table.add_row(
                    *head,
                    f"{side['appliance']} -> {side['peer']}",
                    _coloured(side["state"]),
                    side["taskId"] or "",
                )
            table.add_section()
        self._live.update(table)


def _head(pairing: Pairing) -> tuple[str, str, str]:
    done = pairing["progress"] // 10
    bar = "#" * done + "." * (10 - done)
    state = pairing["phase"] or pairing["state"]
    return " - ".join(pairing["appliances"]), _coloured(state), f"{bar} {pairing['progress']:3} %"


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/]" if colour else state


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}

    def show(self, pairings: Iterable[Pairing]) -> None:
        for pairing in pairings:
            line = _line(pairing)
            if self._shown.get(pairing["id"]) != line:
                self._shown[pairing["id"]] = line
                self._console.print(line, soft_wrap=True, highlight=False)


def _line(pairing: Pairing) -> str:
    sides = ", ".join(f"{side['appliance']} {side['state']}" for side in pairing["sides"])
    state = f"{pairing['state']} {pairing['phase'] or ''}".strip()
    return f"{' - '.join(pairing['appliances'])}: {state} {pairing['progress']} % ({sides})"


def told_end(pairing: Pairing) -> list[str]:
    """How a pairing ended, for people."""
    lines = [f"{pairing['id']} {pairing['state']}"]
    if pairing["error"] is not None:
        lines.append(f"  {pairing['error']['code']}: {pairing['error']['msg']}")
    for side in pairing["sides"]:
        if side["error"] is not None:
            error = f"{side['error']['code']}: {side['error']['msg']}"
            lines.append(f"  on {side['appliance']}: {side['state']}: {error}")
    lines.append(f"  operationID {pairing['operationID']}")
    return lines
