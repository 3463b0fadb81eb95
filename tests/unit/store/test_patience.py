"""Trying again what the database could not be asked, or has undone."""

import asyncio
from collections.abc import Iterator

import pytest

from service.domain.errors import StoreUnavailable
from service.store.errors import Locked, RolledBack
from service.store.patience import CALLERS_S, TRIES, Patience
from tests.support.virtual_time import run


def patience() -> Patience:
    """One that makes the shortest pauses, and is not over within a test."""
    return Patience("testing", 60, jitter=lambda: 0.0)


async def seen_through(patience: Patience, *met: Exception) -> int:
    """How many tries it took of something that meets these, one after the other, and then nothing
    any more."""
    tries = 0
    ahead: Iterator[Exception] = iter(met)

    async def attempt() -> int:
        nonlocal tries
        tries += 1
        if (trouble := next(ahead, None)) is not None:
            raise trouble
        return tries

    return await patience.see_through(attempt)


async def test_what_was_undone_is_done_again_and_counted() -> None:
    patient = patience()
    assert await seen_through(patient, *[RolledBack() for _ in range(TRIES - 1)]) == TRIES
    assert patient.repeats == TRIES - 1


async def test_what_is_undone_each_time_is_given_up() -> None:
    with pytest.raises(RolledBack) as undone:
        await seen_through(patience(), *[RolledBack() for _ in range(TRIES)])
    assert not undone.value.in_doubt


async def test_what_others_hold_is_not_asked_for_again() -> None:
    with pytest.raises(Locked):
        await seen_through(patience(), Locked())


async def test_what_is_undone_after_no_answer_came_is_in_doubt() -> None:
    with pytest.raises(RolledBack) as undone:
        await seen_through(patience(), StoreUnavailable("no answer"), Locked())
    assert undone.value.in_doubt


def test_who_waits_is_told_as_soon_as_patience_is_over_and_nobody_is_pressed_till_then() -> None:
    """Of the trouble they are told once, at its beginning."""
    asked: list[float] = []
    told: list[tuple[float, str]] = []

    async def see_through() -> None:
        clock = asyncio.get_running_loop().time

        async def attempt() -> None:
            asked.append(clock())
            raise StoreUnavailable("no answer")

        patient = Patience("testing", CALLERS_S, jitter=lambda: 0.99)
        await patient.see_through(attempt, lambda error: told.append((clock(), error)))

    with pytest.raises(StoreUnavailable):
        run(see_through())
    assert asked[-1] == pytest.approx(CALLERS_S)
    assert len(asked) < 10
    assert told == [(0, "no answer")]
