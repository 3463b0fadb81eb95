"""Exit statuses, and how a command ends."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, TextIO

from rich.console import Console

from service.domain.errors import NotOurs, RequestError, SitepairError, StoreUnavailable
from service.eventloop import SuspendAwareLoop
from service.observe.terminals import harmless
from service.settings import InvalidSettings


class Exit(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILED = 1
    """What was asked for did not come out well: a pairing that failed, a check that did."""
    REFUSED = 2
    """The command line, the configuration or the request is wrong."""
    UNREACHABLE = 3
    """No answer, of the service or of the database, or none that says what became of it: it may
    have been done."""
    INTERRUPTED = 130


def run(work: Coroutine[Any, Any, Exit], otherwise: Exit = Exit.FAILED) -> Exit:
    """Run a command to its end; its errors are told on stderr, and those that have no status of
    their own end with `otherwise`. SIGTERM ends it like Ctrl-C, which raises KeyboardInterrupt."""
    try:
        with asyncio.Runner(loop_factory=SuspendAwareLoop) as runner:
            return runner.run(_interruptible(work))
    except InvalidSettings as error:
        tell("The configuration cannot be used:", *error.faults)
        return Exit.REFUSED
    except SitepairError as error:
        tell(str(error))
        return _status_of(error, otherwise)
    except asyncio.CancelledError:
        return Exit.INTERRUPTED


def _status_of(error: SitepairError, otherwise: Exit) -> Exit:
    match error:
        case NotOurs():
            return otherwise
        case StoreUnavailable():
            return Exit.UNREACHABLE
        case RequestError():
            return Exit.REFUSED
        case _:
            return otherwise


async def _interruptible(work: Coroutine[Any, Any, Exit]) -> Exit:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def tell(*lines: str) -> None:
    """Say something to whoever watches, apart from the command's output; it may get lost."""
    with suppress(OSError):
        _write(sys.stderr, lines)


def say(*lines: str) -> None:
    """The command's output. Raises Unwritable."""
    with _room_needed():
        _write(sys.stdout, lines)


@contextmanager
def settled() -> Iterator[None]:
    """Nothing is left to be said at its end. What there was no room for would be tried once more as
    the interpreter ends, and that fault would take the place of the command's exit status."""
    try:
        yield
    finally:
        for out in (sys.stdout, sys.stderr):
            try:
                out.flush()
            except OSError:
                _leave_unheard(out)


class Unwritable(SitepairError):
    """There is no place for the output."""


@contextmanager
def _room_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(f"The output cannot be written: {error}") from error


class Terminal(Console):
    """Where a command shows tables and progress. Brackets are brackets: what is shown was written
    by others, who know nothing of markup."""

    def __init__(self, *, stderr: bool = False) -> None:
        out = sys.stderr if stderr else sys.stdout
        no_unless_one = None if out.isatty() else False
        # By itself it takes a file for a terminal where FORCE_COLOR is set, as build servers do,
        # and draws on it where TTY_INTERACTIVE is.
        super().__init__(
            stderr=stderr,
            markup=False,
            emoji=False,
            force_terminal=no_unless_one,
            force_interactive=no_unless_one,
        )

    def print(self, *objects: Any, **how: Any) -> None:
        """Raises Unwritable, unless it is on stderr, where it may get lost."""
        with suppress(OSError) if self.stderr else _room_needed():
            super().print(*objects, **how)

    def on_broken_pipe(self) -> None:
        """Nobody looks any more."""
        _leave_unheard(self.file)


def _write(out: TextIO, lines: Iterable[str]) -> None:
    """Who stopped listening (`| head`) does not stop the command: its work goes on, and its exit
    status tells of that."""
    try:
        out.writelines(harmless(part) + "\n" for line in lines for part in line.split("\n"))
        out.flush()
    except BrokenPipeError:
        _leave_unheard(out)


def _leave_unheard(out: IO[str]) -> None:
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), out.fileno())
