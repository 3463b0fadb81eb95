"""What a person is told of a pairing."""

import io
from typing import Any

import pytest
from rich.console import Console

from service.cli.watching import told_end, watching

ERROR = {"code": "PeerBusy", "msg": "Peer is busy.", "args": []}
WARNING = {"code": "RollbackFailed", "msg": "It may still be there.", "args": ["a", "b"]}


@pytest.fixture(autouse=True)
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run, a terminal is one that moves its cursor."""
    monkeypatch.setenv("TERM", "xterm")


def side(state: str, appliance: str = "a", peer: str = "b", error: object = None) -> Any:
    return {"appliance": appliance, "peer": peer, "state": state, "taskId": None, "error": error}


def a_pairing(*states: str, **changes: object) -> Any:
    one, other = states or ("PENDING", "PENDING")
    plain = {
        "id": "the-id",
        "operation": "pair",
        "appliances": ["a", "b"],
        "state": "QUEUED",
        "phase": None,
        "progress": 40,
        "operationID": "op-1",
        "onFailure": "rollback",
        "canceling": False,
        "endTime": -1,
        "error": None,
        "warnings": [],
        "sides": [side(one), side(other, "b", "a")],
    }
    return plain | changes


def over(state: str, *states: str, **changes: object) -> Any:
    error = None if state == "SUCCEEDED" else ERROR
    return a_pairing(*states, **{"state": state, "endTime": 5, "error": error, **changes})


def test_a_success_is_told_in_two_lines() -> None:
    assert told_end(over("SUCCEEDED", "SUCCEEDED", "ALREADY_PAIRED")) == [
        "the-id pair SUCCEEDED",
        "  operationID op-1",
    ]


def test_a_success_tells_what_it_warns_of() -> None:
    warning = {"code": "AlreadyUnpaired", "msg": "There was nothing to unpair.", "args": []}
    told = told_end(over("SUCCEEDED", "SUCCEEDED", "SUCCEEDED", warnings=[warning]))
    assert "  warning: AlreadyUnpaired: There was nothing to unpair." in told


def test_a_failure_tells_how_each_side_was_left() -> None:
    assert told_end(over("FAILED", "ROLLED_BACK", "FAILED")) == [
        "the-id pair FAILED",
        "  PeerBusy: Peer is busy.",
        "  on a: ROLLED_BACK",
        "  on b: FAILED",
        "  operationID op-1",
    ]


def test_what_is_left_behind_is_told_with_the_way_out() -> None:
    told = told_end(over("CANCELED", "ROLLBACK_FAILED", "PENDING", warnings=[WARNING]))
    assert "  warning: RollbackFailed: It may still be there." in told
    assert "  Resume the rollback: sitepair retry the-id" in told


def test_what_was_kept_is_told_so() -> None:
    told = told_end(over("FAILED", "SUCCEEDED", "FAILED", onFailure="keep"))
    assert "  on a: SUCCEEDED, kept" in told


async def shown(*pairings: Any, is_terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=200)
    async with watching(console) as watch:
        for each in pairings:
            watch.show([each])
    return out.getvalue()


async def test_each_change_is_a_line_and_nothing_else_is() -> None:
    running = a_pairing("REQUESTED", "PENDING", state="RUNNING", phase="PAIRING")
    canceling = running | {"canceling": True}
    back = canceling | {"phase": "ROLLING_BACK"}

    lines = (await shown(running, running, canceling, back, back)).splitlines()

    assert [line.split(" %")[0] for line in lines] == [
        "a - b: RUNNING PAIRING 40",
        "a - b: RUNNING PAIRING canceling 40",
        "a - b: RUNNING ROLLING_BACK canceling 40",
    ]


async def test_a_terminal_shows_the_phase_and_that_it_is_being_canceled() -> None:
    running = a_pairing("ACCEPTED", "PENDING", state="RUNNING", phase="PAIRING", canceling=True)
    assert "PAIRING, canceling" in await shown(running, is_terminal=True)


async def test_a_terminal_shows_how_far_it_is_and_the_state_of_each_side() -> None:
    running = a_pairing("ACCEPTED", "PENDING", state="RUNNING", phase="PAIRING")
    screen = await shown(running, is_terminal=True)
    (one,) = {line for line in screen.splitlines() if "a -> b" in line}
    (other,) = {line for line in screen.splitlines() if "b -> a" in line}
    assert " ####......  40 %" in one
    assert "ACCEPTED" in one
    assert "PENDING" in other


async def test_a_terminal_that_moves_no_cursor_gets_lines_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    running = a_pairing("ACCEPTED", "PENDING", state="RUNNING", phase="PAIRING")
    assert await shown(running, is_terminal=True) == await shown(running)


async def test_a_task_id_is_shown_as_the_appliance_wrote_it() -> None:
    odd = a_pairing("ACCEPTED", "PENDING", state="RUNNING", phase="PAIRING")
    odd["sides"][0]["taskId"] = "[/b] [red]7[/red] \x1b[2J"
    assert r"[/b] [red]7[/red] \x1b[2J" in await shown(odd, is_terminal=True)
