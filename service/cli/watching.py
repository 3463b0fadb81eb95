"""Shows pairings as they go on: live on a terminal, a line for each change elsewhere."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from service.cli.tables import drawn
from service.observe.terminals import harmless

Pairing = Mapping[str, Any]

_COLOURS = {
    "SUCCEEDED": "green",
    "ALREADY_PAIRED": "green",
    "FAILED": "red",
    "ROLLBACK_FAILED": "red",
    "CANCELED": "yellow",
    "ROLLING_BACK": "yellow",
    "ROLLED_BACK": "yellow",
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
    if not console.is_interactive:  # nor is a terminal that moves no cursor
        yield _Lines(console)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield _Screen(live)


class _Screen:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, pairings: Iterable[Pairing]) -> None:
        table = drawn(("pairing", "state", "", "side", "state", "task"))
        for pairing in pairings:
            for number, side in enumerate(pairing["sides"]):
                head = _head(pairing) if number == 0 else ("", "", "")
                table.add_row(
                    *head,
                    f"{side['appliance']} -> {side['peer']}",
                    _coloured(side["state"]),
                    Text(harmless(side["taskId"] or "")),
                )
            table.add_section()
        self._live.update(table)


def _head(pairing: Pairing) -> tuple[str, Text, str]:
    done = pairing["progress"] // 10
    bar = "#" * done + "." * (10 - done)
    state = _coloured(pairing["phase"] or pairing["state"])
    state.append(", canceling" if pairing["canceling"] else "")
    return " - ".join(pairing["appliances"]), state, f"{bar} {pairing['progress']:3} %"


def _coloured(state: str) -> Text:
    # What is appended to it has no colour.
    return Text().append(state, _COLOURS.get(state))


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}

    def show(self, pairings: Iterable[Pairing]) -> None:
        for pairing in pairings:
            line = _line(pairing)
            if self._shown.get(pairing["id"]) != line:
                self._shown[pairing["id"]] = line
                self._console.print(Text(line), soft_wrap=True)


def _line(pairing: Pairing) -> str:
    sides = ", ".join(f"{side['appliance']} {side['state']}" for side in pairing["sides"])
    canceling = "canceling" if pairing["canceling"] else ""
    state = " ".join(filter(None, [pairing["state"], pairing["phase"], canceling]))
    return f"{' - '.join(pairing['appliances'])}: {state} {pairing['progress']} % ({sides})"


def is_left_behind(pairing: Pairing) -> bool:
    """Whether a rollback of it could not be completed."""
    return any(side["state"] == "ROLLBACK_FAILED" for side in pairing["sides"])


def told_end(pairing: Pairing) -> list[str]:
    """How a pairing ended, for people: what it came to, and what is left where."""
    lines = [f"{pairing['id']} {pairing['operation']} {pairing['state']}"]
    if pairing["error"] is not None:
        lines.append(f"  {_words(pairing['error'])}")
    if pairing["state"] in {"FAILED", "CANCELED"}:
        lines += [_told_side(pairing, side) for side in pairing["sides"]]
    lines += [f"  warning: {_words(warning)}" for warning in pairing["warnings"]]
    if is_left_behind(pairing):
        lines.append(f"  Resume the rollback: sitepair retry {pairing['id']}")
    lines.append(f"  operationID {pairing['operationID']}")
    return lines


def _told_side(pairing: Pairing, side: Mapping[str, Any]) -> str:
    state = side["state"]
    if state == "SUCCEEDED":  # nothing to undo, or told not to
        state += ", kept" if pairing["onFailure"] == "keep" else ", stays"
    error = f": {_words(side['error'])}" if side["error"] is not None else ""
    return f"  on {side['appliance']}: {state}{error}"


def _words(error: Mapping[str, Any]) -> str:
    return f"{error['code']}: {error['msg']}"
