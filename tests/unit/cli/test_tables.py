"""Tables: all of what is in them can be read, wherever they are shown."""

import io
import sys

import pytest

from service.cli.tables import show

LONG = "https://appliance-with-a-long-name.example.com:8048/" + "x" * 60
ROWS = [("a", LONG, "one\ntwo"), ("b [/b]", "", "\u7ad9")]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_each_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(("name", "url", "said"), ROWS)
    assert capsys.readouterr().out.splitlines() == [
        f"name    {'url'.ljust(len(LONG))}  said",
        f"a       {LONG}  one\\ntwo",
        f"b [/b]  {' ' * len(LONG)}  \u7ad9",
    ]


def test_what_wants_colours_makes_no_terminal_of_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(("name", "url"), [("a", "b")])
    assert capsys.readouterr().out == "name  url\na     b\n"


def test_a_terminal_that_wants_to_be_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    out = _Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    show(("name", "url"), [("a", "b")])
    assert out.getvalue() == "name  url\na     b\n"


def test_on_a_terminal_what_does_not_fit_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = _Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    show(("name", "url", "said"), ROWS)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 < len(LONG)
    assert "\u2026" not in out.getvalue()
    cells = [line.split("\u2502")[2].strip() for line in lines if line.startswith("\u2502")]
    assert "".join(cells) == LONG
