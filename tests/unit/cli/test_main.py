"""How the command line begins."""

import sys

import pytest

from service.cli import main
from service.cli.status import Exit


def test_who_interrupts_as_the_command_begins_sees_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["sitepair", "--version"])
    assert main(interrupt) == Exit.INTERRUPTED
