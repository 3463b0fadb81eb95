"""How a command runs; what others wrote is shown as it is, and does nothing to the terminal."""

import asyncio
import io
import sys

import pytest

from service.cli.status import Exit, Terminal, run, say
from service.eventloop import SuspendAwareLoop
from service.observe.terminals import harmless


def test_a_command_runs_on_the_clock_that_goes_on_while_the_machine_sleeps() -> None:
    async def work() -> Exit:
        return Exit(not isinstance(asyncio.get_running_loop(), SuspendAwareLoop))

    assert run(work()) == Exit.OK


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("closed [/b] :smile:", "closed [/b] :smile:"),
        ("\u017elu\u0165\u00e1 \U0001f40e", "\u017elu\u0165\u00e1 \U0001f40e"),
        ("\x1b[2Jgone\r\x07\x9b", "\\x1b[2Jgone\\r\\x07\\x9b"),
        ("two\nlines", "two\\nlines"),
        ("abc\u202ecba", "abc\\u202ecba"),
    ],
)
def test_what_moves_the_cursor_is_spelt_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_line_of_output_says_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    say("[red]one[/red] \x1b]0;title\x07", "two\nthree")
    assert capsys.readouterr().out == "[red]one[/red] \\x1b]0;title\\x07\ntwo\nthree\n"


def test_a_terminal_knows_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    Terminal().print("https://[fd00::1]:443 [/b] :smile:")
    assert out.getvalue() == "https://[fd00::1]:443 [/b] :smile:\n"
