"""Where the engine waits, and where a process was waiting when it was killed."""

import ast
import asyncio
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

from tests.simulation.clockwork import Node

ENGINE = Path(__file__).parents[2] / "service" / "engine"

Site = tuple[str, int]
"""File name and first line of an `await`, or of what waits without that word."""


@cache
def all_sites() -> frozenset[Site]:
    """Every place in service/engine where a coroutine can be suspended."""
    return frozenset(site for site, _ in _spans())


@cache
def _spans() -> tuple[tuple[Site, int], ...]:
    """Sites with their last lines, the inner ones first."""
    found = []
    for path in sorted(ENGINE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Await):
                found.append(((path.name, node.lineno), node.end_lineno or node.lineno))
            elif isinstance(node, ast.AsyncWith | ast.AsyncFor) and not _never_waits(node):
                found.append(((path.name, node.lineno), node.body[0].lineno - 1))
    return tuple(sorted(found, key=lambda span: span[1] - span[0][1]))


def _never_waits(node: ast.AsyncWith | ast.AsyncFor) -> bool:
    """Neither entering nor leaving `asyncio.timeout` suspends."""
    if isinstance(node, ast.AsyncFor):
        return False
    return all(ast.unparse(item).startswith("asyncio.timeout") for item in node.items)


@cache
def _site_of(name: str, line: int) -> Site | None:
    return next(
        (site for site, last in _spans() if site[0] == name and site[1] <= line <= last), None
    )


def suspended(node: Node) -> set[Site]:
    """Where in the engine the tasks of `node` wait at this moment."""
    return {site for task in node.pending for site in waits_at(task)}


def waits_at(task: asyncio.Task[object]) -> set[Site]:
    """Where in the engine a task waits: at one place in each function that it is in."""
    found = (_site_of(name, line) for name, line in _frames(task.get_coro()))
    return {site for site in found if site is not None}


def _frames(waiting: object) -> Iterator[tuple[str, int]]:
    """The engine's frames of a coroutine and of what it awaits, the outermost first."""
    while waiting is not None:
        frame: FrameType | None = getattr(waiting, "cr_frame", None)
        if frame is not None and _is_engine(frame.f_code):
            yield Path(frame.f_code.co_filename).name, frame.f_lineno
        waiting = getattr(waiting, "cr_await", None)


@cache
def _is_engine(code: CodeType) -> bool:
    return Path(code.co_filename).parent == ENGINE
